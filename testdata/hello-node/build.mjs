// Bundles the program with what it imports, and packs a copy: what bundlers do.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const modules = readdirSync("node_modules").sort().map((name) => {
  const { exports } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  const text = readFileSync(`node_modules/${name}/${exports}`, "utf8");
  return [name, `data:text/javascript,${encodeURIComponent(text)}`];
});
let text = readFileSync("app.mjs", "utf8");
for (const [name, url] of modules) text = text.replaceAll(`"${name}"`, JSON.stringify(url));

mkdirSync("dist");
writeFileSync("dist/app.mjs", text);
writeFileSync("dist/app.mjs.gz", gzipSync(text));
const digest = createHash("sha256").update(text).digest("hex");
writeFileSync("dist/digests.json", JSON.stringify({ "app.mjs": digest }));
