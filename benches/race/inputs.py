"""The contexts and base images of the race, made once, the same each time.

Nothing is fetched: text is drawn from a skewed vocabulary, as source code is, and
noise stands for what is compressed already. `scale` shrinks sizes and counts.
"""
import json
import os
import random
import shutil
import subprocess
import sys

import images

MIB = 1 << 20
PATH = "PATH=/usr/local/go/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Inputs:
    """The folder of inputs; `have` says what is in it."""

    def __init__(self, folder, scale):
        self.folder, self.scale = folder, scale
        self.have = {}
        os.makedirs(folder, exist_ok=True)
        self.index = os.path.join(folder, "inputs.json")
        if os.path.exists(self.index):
            with open(self.index) as file:
                self.have = json.load(file)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def make(self, names):
        """Makes those of the inputs that are missing, in the order given."""
        for name in names:
            if name in self.have:
                continue
            print(f"race: making input {name}", file=sys.stderr, flush=True)
            folder = self.path(name)
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            self.have[name] = MAKERS[name](self, folder)
            with open(self.index, "w") as file:
                json.dump(self.have, file, indent=1)

    def count(self, whole, least=1):
        return max(least, round(whole * self.scale))

    def used(self, base):
        """A context that uses a base image once."""
        folder = self.path("used")
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/Dockerfile", "w") as file:
            file.write(f"FROM {base}\nRUN : used\n")
        return folder

    def dockerfiles(self, host):
        """The small contexts; they name the registry, so they are written for each race."""
        spins = self.have.get("spins", {}).get("turns", 0)
        stages = "".join(
            f"FROM {host}/busybox AS s{i}\nRUN i={i}; while [ $i -lt {spins} ]; do i=$((i+1)); done; echo {i} >/out{i}\n"
            for i in range(4))
        copies = "".join(f"COPY --from=s{i} /out{i} /\n" for i in range(4))
        for name, text, files in (
            ("true", f"FROM {host}/busybox\n" + "RUN true\n" * 20, {}),
            ("touch", f"FROM {host}/system\nRUN echo new >/etc/new && echo more >>/etc/version && rm /usr/bin/b0\n", {}),
            ("stages", f"{stages}FROM scratch\n{copies}", {}),
            ("app", f"FROM {host}/system\nCOPY app /usr/local/bin/app\n", {"app": random.Random(5).randbytes(MIB)}),
            ("first", f"FROM {host}/system\nRUN true\n", {}),
            ("server", f"FROM {host}/golang AS build\nWORKDIR /src\nCOPY go.mod main.go ./\nRUN go build -o /server .\n"
             "FROM scratch\nCOPY --from=build /server /server\nENTRYPOINT [\"/server\"]\n",
             {"go.mod": b"module race.invalid/server\n\ngo 1.21\n", "main.go": SERVER}),
        ):
            os.makedirs(self.path(name), exist_ok=True)
            for path, data in {"Dockerfile": text.encode(), **files}.items():
                with open(self.path(name, path), "wb") as file:
                    file.write(data)


SERVER = b"""package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s\\n", r.Method, r.URL.Path)
	})
	if err := http.ListenAndServe(":8080", nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
"""


class Text:
    """Text that gzip -6 brings to about a fifth, of any size without much work."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        words = ["".join(self.random.choices("eeettaaooiinsrhldcumfpgwybv_", k=self.random.randint(2, 10)))
                 for _ in range(4000)]
        lines, size = [], 0
        while size < 4 * MIB:
            some = [words[min(3999, int(self.random.paretovariate(0.65)) - 1)] for _ in range(self.random.randint(2, 12))]
            line = "    " * self.random.randint(0, 3) + " ".join(some)
            if self.random.random() < 0.4:
                line += f"({self.random.randrange(10**6)});"
            lines.append(line)
            size += len(line) + 1
        self.pool = "\n".join(lines).encode()

    def piece(self, size):
        start = self.random.randrange(max(1, len(self.pool) - size))
        return self.pool[start:start + size]

    def long(self, size):
        """Pieces of a page each, so that no match is longer."""
        return b"".join(self.piece(4096) for _ in range(-(-size // 4096)))[:size]


def big(inputs, folder):
    """64 files of 16 MiB: text and noise in turn."""
    text, size = Text(1), inputs.count(16 * MIB)
    os.mkdir(f"{folder}/tree")
    for i in range(64):
        with open(f"{folder}/tree/f{i:02}", "wb") as file:
            for start in range(0, size, MIB):
                length = min(MIB, size - start)
                file.write(text.random.randbytes(length) if i % 2 else text.long(length))
    _copy_tree(folder)
    return {"files": 64, "bytes": 64 * size}


def many(inputs, folder):
    """50,000 files in 2,000 folders, most of them of one to six KiB."""
    text, total = Text(2), 0
    folders = inputs.count(2000, least=20)
    for i in range(folders):
        place = f"{folder}/tree/a{i // 100:02}/b{i // 10 % 10}/c{i % 10}"
        os.makedirs(place)
        for j in range(25):
            size = min(200_000, int(text.random.lognormvariate(7.6, 1.2)))
            data = b"// %d %d\n" % (i, j) + text.piece(size)
            total += len(data)
            with open(f"{place}/f{j:02}.c", "wb") as file:
                file.write(data)
    _copy_tree(folder)
    return {"files": folders * 25, "bytes": total}


def _copy_tree(folder):
    with open(f"{folder}/Dockerfile", "w") as file:
        file.write("FROM scratch\nCOPY tree /tree\n")


def busybox(_, folder):
    """A static busybox under all its names."""
    layer = images.Layer(folder)
    _busybox(layer)
    return images.finish(folder, [layer.finish()], [PATH])


def _busybox(layer):
    program = shutil.which("busybox")
    if not program:
        raise SystemExit("race: no busybox for the base images; peers.sh gets one (busybox-static)")
    with open(program, "rb") as file:
        data = file.read()
    for path in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "usr/bin", "usr/local", "usr/local/bin"):
        layer.folder_entry(path, 0o1777 if path == "tmp" else 0o755)
    layer.add("bin/busybox", data, 0o755)
    for name in subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            layer.link(f"bin/{name}", "busybox")
    layer.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    layer.add("etc/group", b"root:x:0:\n")
    layer.add("etc/version", b"1\n")


def system(inputs, folder):
    """What a distribution's image with compilers is like: six layers, 390 MB, 9,000 files,
    as compressible as programs are (to about 0.37)."""
    text, layers, files = Text(3), [], 0
    for number in range(6):
        layer = images.Layer(folder)
        if number == 0:
            _busybox(layer)
        layer.folder_entry(f"usr/lib{number}")
        for i in range(inputs.count(60, least=2)):
            layer.folder_entry(f"usr/lib{number}/d{i}")
            for j in range(25):
                size = min(400_000, int(text.random.lognormvariate(8.2, 1.3)))
                layer.add(f"usr/lib{number}/d{i}/f{j}", _program(text, size))
                files += 1
        for i in range(3):
            layer.add(f"usr/bin/{'bcdefg'[number]}{i}", _program(text, inputs.count(15_500_000)), 0o755)
        layers.append(layer.finish())
    image = images.finish(folder, layers, [PATH])
    image["files"] = files
    return image


def _program(text, size):
    """Text, noise and zeros in the measure of machine code and its tables."""
    parts = []
    for start in range(0, size, 16384):
        length = min(16384, size - start)
        noise = length // 5
        parts += [text.random.randbytes(noise), text.long(length - noise - length // 10), bytes(length // 10)]
    return b"".join(parts)


def ten(inputs, folder):
    """Ten layers of 50 MiB that do not compress, and the OCI layout of them."""
    noise, layers = random.Random(4), []
    for number in range(10):
        layer = images.Layer(folder, level=1)
        layer.add(f"noise{number}", noise.randbytes(inputs.count(50 * MIB)))
        layers.append(layer.finish())
    image = images.finish(folder, layers, [PATH])
    images.layout(image, f"{folder}/layout")
    return image


def golang(_, folder):
    """busybox, and the Go of this machine without its tests."""
    if not shutil.which("go"):
        raise SystemExit("race: no `go` for workload L; leave it out with -w, or put one on PATH")
    root = subprocess.run(["go", "env", "GOROOT"], check=True, capture_output=True, text=True).stdout.strip()
    layer = images.Layer(folder)
    _busybox(layer)
    base, layer = layer.finish(), images.Layer(folder)
    layer.folder_entry("usr/local/go")
    for part in ("bin", "pkg", "src"):
        for place, folders, files in os.walk(f"{root}/{part}"):
            folders[:] = sorted(name for name in folders if name != "testdata")
            inside = "usr/local/go" + place[len(root):]
            layer.folder_entry(inside)
            for name in sorted(files):
                path = os.path.join(place, name)
                if not name.endswith("_test.go") and os.path.isfile(path):
                    with open(path, "rb") as file:
                        layer.add(f"{inside}/{name}", file.read(), os.stat(path).st_mode & 0o755)
    with open(f"{root}/VERSION", "rb") as file:
        layer.add("usr/local/go/VERSION", file.read())
    if os.path.exists(f"{root}/go.env"):
        with open(f"{root}/go.env", "rb") as file:
            layer.add("usr/local/go/go.env", file.read())
    return images.finish(folder, [base, layer.finish()], [PATH, "CGO_ENABLED=0", "GOTOOLCHAIN=local"])


def spins(inputs, _):
    """How many turns of the shell's loop take two seconds on this machine."""
    turns, best = 300_000, float("inf")
    for _ in range(5):
        before = sum(os.times()[2:4])
        subprocess.run(["busybox", "sh", "-c", f"i=0; while [ $i -lt {turns} ]; do i=$((i+1)); done"], check=True)
        best = min(best, sum(os.times()[2:4]) - before)
    return {"turns": int(turns * 2 * inputs.scale / best)}


MAKERS = {maker.__name__: maker for maker in (big, many, busybox, system, ten, golang, spins)}
