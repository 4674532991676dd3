"""Results as Markdown: medians, ratios against what the goals name, and whether they are reached."""
import json
import statistics

from workloads import WORKLOADS

UNITS = {"wall": "s", "cpu": "s", "rss": "MiB", "bytes": "MB"}


def of_files(paths):
    """The table of a file of results, with the floors if a file of them is given, too."""
    results, floors = None, None
    for path in paths:
        with open(path) as file:
            found = json.load(file)
        if "floors" in found:
            floors = found
        elif results is None:
            results = found
        elif (results["root"], results["scale"]) == (found["root"], found["scale"]):
            results["runs"] += found["runs"]
            results["tools"] |= found["tools"]
        else:
            raise SystemExit(f"race: {path} is of another user or scale than the file before it")
    if results is None:
        return floors_table(floors)
    return table(results, floors)


def table(results, floors):
    medians = {key: _medians(results, key) for key in WORKLOADS}
    lines = [_machine(results), "", *_tools(results), ""]
    lines += ["| | tool | wall s | CPU s | peak RSS MiB | layers MB | runs (noisy) |", "|---|---|---|---|---|---|---|"]
    for key, tools in medians.items():
        floor = (floors or {"floors": {}})["floors"].get(key)
        if tools and floor:
            size = f"{floor['bytes'] / 1e6:.1f}" if floor.get("bytes") else ""
            lines.append(f"| {key} | floor | {floor['wall']:.3f} | {floor['cpu']:.3f} | | {size} | |")
        for name, found in sorted(tools.items(), key=lambda each: each[1].get("wall", float("inf"))):
            lines.append(f"| {key} | {name} | {_cells(found)} |")
    lines += ["", "| | workload | kiln's goal | against | ratio | reached |", "|---|---|---|---|---|---|"]
    for key, tools in medians.items():
        if "kiln" in tools:
            lines += _goals(key, results, tools, floors)
    return "\n".join(lines)


def floors_table(floors):
    lines = ["| | floor | CPU s | wall s | made of |", "|---|---|---|---|---|"]
    for key, floor in floors["floors"].items():
        parts = ", ".join(f"{name} {cost:.3f}" for name, cost in floor["parts"].items())
        lines.append(f"| {key} | {WORKLOADS[key].title} | {floor['cpu']:.3f} | {floor['wall']:.3f} | {parts} |")
    return "\n".join(lines)


def _machine(results):
    user = "root" if results["root"] else "an ordinary user"
    scale = "" if results["scale"] == 1 else f", inputs scaled to {results['scale']:g}"
    return f"{results['date']}, {results['cpus']} CPUs, Linux {results['kernel']}, as {user}{scale}."


def _tools(results):
    for name, tool in results["tools"].items():
        if "absent" in tool:
            yield f"- {name}: **absent** ({tool['absent']})"
        else:
            yield f"- {name}: {tool['version']}" + (f"; {tool['note']}" if tool["note"] else "")


def _medians(results, key):
    """By tool: the medians of its quiet runs, or of all if none was quiet."""
    found = {}
    for run in results["runs"]:
        if run["workload"] == key:
            found.setdefault(run["tool"], []).append(run)
    return {name: _median(runs) for name, runs in found.items()}


def _median(runs):
    failed = [run for run in runs if "failed" in run]
    if failed:
        return failed[0]
    chosen = [run for run in runs if not run["noisy"]] or runs
    return {name: statistics.median(run[name] for run in chosen)
            for name in ("wall", "cpu", "rss", "bytes") if name in chosen[0]} | {
                "runs": len(chosen), "noisy": sum(run["noisy"] for run in runs)}


def _cells(found):
    if "failed" in found:
        return f"failed: {found['failed'][:120]} | | | |"
    size = f"{found['bytes'] / 1e6:.1f}" if "bytes" in found else ""
    return (f"{found['wall']:.3f} | {found['cpu']:.3f} | {found['rss']:.1f} | {size} | "
            f"{found['runs']} ({found['noisy']})")


def _goals(key, results, tools, floors):
    workload, kiln = WORKLOADS[key], tools["kiln"]
    for goal in workload.goals:
        yield (f"| {key} | {workload.title} | " +
               " | ".join(_judge(goal, kiln, workload, results, tools, floors, key)) + " |")


def _judge(goal, kiln, workload, results, tools, floors, key):
    """The goal in words, what it is held against, the ratio, and whether that is reached."""
    unit = UNITS[goal.measure]
    if goal.against == "limit":
        words = f"{goal.measure} ≤ {goal.ratio:g} {unit}"
        if "failed" in kiln:
            return words, "", "failed", "no"
        return words, "", f"{kiln[goal.measure]:.1f} {unit}", _yes(kiln[goal.measure] <= goal.ratio)
    words = f"{goal.measure} ≤ {_ratio(goal.ratio)} of {goal.against}"
    name, other = _other(goal, workload, results, tools, floors, key)
    if other is None:
        return words, f"{name}: not measured", "", "?"
    if "failed" in kiln:
        return words, name, "failed", "no"
    scale = 1e-6 if goal.measure == "bytes" else 1
    against = f"{name} {other * scale:.3f} {unit}"
    if not other:
        return words, against, "", "?"
    ratio = kiln[goal.measure] / other
    return words, against, _ratio(ratio), _yes(ratio <= goal.ratio)


def _other(goal, workload, results, tools, floors, key):
    """Name and value of what the goal is held against; the value is None if there is none."""
    if goal.against == "floor":
        return "floor", (floors or {"floors": {}})["floors"].get(key, {}).get(goal.measure)
    if goal.against != "best":
        return goal.against, tools.get(goal.against, {}).get(goal.measure)
    peers = {name: found[goal.measure] for name, found in tools.items()
             if goal.measure in found and name != "kiln" and name not in workload.apart
             and results["tools"][name].get("reads_dockerfiles")}
    return min(peers.items(), key=lambda each: each[1], default=("best", None))


def _ratio(ratio):
    if ratio >= 0.995:
        return f"{ratio:.3f}" if ratio < 1.1 else f"{ratio:.2f}"
    return f"1/{1 / ratio:.3g}" if ratio else "0"


def _yes(reached):
    return "yes" if reached else "**no**"
