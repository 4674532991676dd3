"""The race itself: workload by workload, the tools in turns within each repetition."""
import dataclasses
import json
import os
import sys
import time

import images
import measure
import tools as all_tools
from inputs import Inputs
from registry import Registry
from stores import Stores
from workloads import WORKLOADS

CHANGED = "tree/a00/b1/c4/f11.c"


class Race:
    def __init__(self, folder, scale, timeout):
        self.folder, self.timeout = os.path.abspath(folder), timeout
        os.makedirs(self.folder, exist_ok=True)
        self.inputs = Inputs(f"{self.folder}/inputs-{scale:g}", scale)
        self.stores = Stores(self.folder)
        self.log = open(f"{self.folder}/race.log", "a")
        # Bases come from one registry; H and I push to another, which is empty.
        self.home = Registry(f"{self.folder}/registry-{scale:g}")
        self.away = Registry(f"{self.folder}/tools/registry")
        self.serial = int(time.time())

    def run(self, keys, tools, repetitions, retries, path):
        """Measures, and writes what is known after each run to `path`."""
        results = {"date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "kernel": os.uname().release,
                   "root": os.geteuid() == 0, "scale": self.inputs.scale, "tools": {}, "runs": []}
        for tool in tools:
            absent = tool.missing()
            results["tools"][tool.name] = {"absent": absent} if absent else {
                "version": tool.version(), "note": tool.note, "reads_dockerfiles": tool.reads_dockerfiles}
        present = [tool for tool in tools if not tool.missing()]
        try:
            self._prepare(keys, present)
            for key in keys:
                out = set()
                for repetition in range(repetitions):
                    for tool in present:
                        if tool.takes(WORKLOADS[key]) and tool.name not in out:
                            found = self._quiet_run(key, tool, retries)
                            if "failed" in found:
                                out.add(tool.name)
                            results["runs"].append({"workload": key, "tool": tool.name,
                                                    "repetition": repetition, **found})
                            _save(results, path)
        finally:
            for tool in present:
                tool.close()
            self.home.stop()
            self.away.stop()
            self.stores.remove_all()
        return results

    def _prepare(self, keys, tools):
        need = dict.fromkeys(name for key in keys for name in WORKLOADS[key].inputs)
        self.inputs.make(need)
        self.home.start()
        for name in need:
            if "layers" in self.inputs.have[name]:
                self.home.fill(name, self.inputs.have[name])
        self.inputs.dockerfiles(self.home.host)
        for tool in tools:
            tool.registries = (self.home.host, self.away.host)
            tool.layout = self.inputs.path("ten", "layout")

    def _quiet_run(self, key, tool, retries):
        """One run; again while others work too much beside it."""
        for attempt in range(retries + 1):
            os.sync()
            try:
                found = self._run(key, tool)
            except measure.Failed as failure:
                _say(f"{key:2} {tool.name:12} FAILED: {failure}")
                return {"failed": str(failure)}
            finally:
                tool.close()
            noisy = " (noisy)" if found["noisy"] else ""
            _say(f"{key:2} {tool.name:12} {found['wall']:8.3f} s wall {found['cpu']:8.3f} s CPU {found['rss']:6.1f} MiB"
                 f" {found.get('bytes', 0):>12} bytes, others {found['foreign']:.2f} s{noisy}")
            if not found["noisy"]:
                break
        return found

    def _run(self, key, tool):
        workload = WORKLOADS[key]
        self.serial += 1
        registry = self.home
        self.stores.retire(tool.folder)
        os.makedirs(tool.folder)
        if workload.is_push:
            registry = self.away
            registry.stop()
            self.stores.retire(registry.folder)
            registry.start()
        job = all_tools.Job(
            context=self.inputs.path(workload.context) if workload.context else "", end=workload.end,
            archive=f"{tool.folder}/image.tar", target=f"{registry.host}/run{self.serial}",
            base=f"{self.home.host}/{workload.base}" if workload.base else "")
        tool.open()
        found = self._measure(key, workload, tool, job, registry)
        if not tool.makes_images:
            return found
        if workload.end == "archive":
            found["bytes"], found["layers"], found["entries"] = images.weigh_archive(job.archive)
            files = self.inputs.have.get(workload.context, {}).get("files", 0)
            if found["entries"] < files:
                raise measure.Failed(f"the archive holds {found['entries']} entries, and {files} files were to be copied")
        elif workload.end == "registry":
            found["bytes"], found["layers"] = registry.weigh(f"run{self.serial}")
        return found

    def _measure(self, key, workload, tool, job, registry):
        commands = tool.alone(key, job)
        if commands:
            if workload.pushed:
                self._uncounted(tool, commands)
            return self._counted(tool, commands, registry)
        if job.base:
            self._uncounted(tool, tool.pull(job.base))
        if workload.base and not workload.is_push and tool.keeps_store:
            # Some unpack when they pull, others when a step stands on it.
            used = self.inputs.used(job.base)
            self._uncounted(tool, tool.build(dataclasses.replace(job, context=used, end="store", name="used")))
        commands = tool.push(job.base, job.target) if workload.is_push else tool.build(job)
        if workload.built or workload.pushed:
            self._uncounted(tool, commands)
            if os.path.exists(job.archive):
                os.remove(job.archive)
        if not workload.changed:
            return self._counted(tool, commands, registry)
        changed = os.path.join(job.context, CHANGED)
        with open(changed, "rb") as file:
            before = file.read()
        try:
            with open(changed, "wb") as file:
                file.write(before + b"// changed %d\n" % self.serial)
            return self._counted(tool, commands, registry)
        finally:
            with open(changed, "wb") as file:
                file.write(before)

    def _uncounted(self, tool, commands):
        measure.run(commands, tool.env(), self.log, timeout=self.timeout)

    def _counted(self, tool, commands, registry):
        os.sync()
        cost = measure.run(commands, tool.env(), self.log, tool.daemons, registry.pid, self.timeout)
        return {name: round(value, 4) for name, value in dataclasses.asdict(cost).items()} | {"noisy": cost.noisy()}


def _save(results, path):
    with open(path + ".new", "w") as file:
        json.dump(results, file, indent=1)
    os.replace(path + ".new", path)


def _say(text):
    print(text, file=sys.stderr, flush=True)
