#!/usr/bin/env python3
"""Races kiln against other builders of images, on the same inputs in the same minutes.

    race.py list                                   tools, workloads
    race.py run -w A,B -t kiln,buildah -n 5        measures; prints the table
    race.py floors -w A,B                          what this machine could do at best
    race.py report results.json [floors.json]      the table again, as Markdown

See benches/README.md for what is measured and how to read it.
"""
import argparse
import os
import sys

import floors
import measure
import report
from runner import Race
from tools import TOOLS
from workloads import WORKLOADS

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(os.path.dirname(os.path.dirname(HERE)), "target")


def main():
    arguments = parse()
    # A program beside the race goes first, what is installed follows.
    os.environ["PATH"] = ":".join([*arguments.path, f"{TARGET}/race/peers", os.environ.get("PATH", ""),
                                   "/usr/local/go/bin", "/usr/sbin", "/sbin"])
    arguments.command(arguments)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(path=[])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-w", "--workloads", type=keys, default=list(WORKLOADS), metavar="A,B",
                        help="which workloads [default: all]")
    common.add_argument("--dir", default=f"/var/tmp/kiln-race-{os.geteuid()}",
                        help="folder for inputs and stores, some 20 GiB [default: %(default)s]")
    common.add_argument("--scale", type=float, default=1.0,
                        help="size of the inputs, for a try: 0.1 is a tenth [default: 1]")
    common.add_argument("--path", action="append", default=[],
                        help="folder of programs that go before those of PATH; may be repeated")
    common.add_argument("--timeout", type=float, default=900, help="seconds for one command [default: 900]")

    run = commands.add_parser("run", parents=[common], help="measure")
    run.add_argument("-t", "--tools", type=names, default=[tool.name for tool in TOOLS], metavar="kiln,buildah",
                     help="which tools [default: all]")
    run.add_argument("-n", "--repetitions", type=int, default=5, help="how often each [default: 5]")
    run.add_argument("--retries", type=int, default=1,
                     help="how often a run is done again if others worked beside it [default: 1]")
    run.add_argument("-o", "--output", default="results.json", help="the file of results [default: results.json]")
    run.set_defaults(command=race)

    least = commands.add_parser("floors", parents=[common], help="measure what this machine could do at best")
    least.add_argument("-n", "--repetitions", type=int, default=3, help="how often each part [default: 3]")
    least.add_argument("-o", "--output", default="floors.json", help="the file of results [default: floors.json]")
    least.set_defaults(command=measure_floors)

    table = commands.add_parser("report", help="print the table of files of results and floors")
    table.add_argument("files", nargs="+")
    table.set_defaults(command=lambda arguments: print(report.of_files(arguments.files)))

    commands.add_parser("list", parents=[common], help="tools and workloads").set_defaults(command=show)
    return parser.parse_args()


def keys(text):
    return _chosen(text, WORKLOADS)


def names(text):
    return _chosen(text, [tool.name for tool in TOOLS])


def _chosen(text, known):
    chosen = text.split(",")
    if unknown := [each for each in chosen if each not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(known)}")
    return chosen


def race(arguments):
    measure.adopt_orphans()
    course = Race(arguments.dir, arguments.scale, arguments.timeout)
    tools = [tool(course.stores.folder) for tool in TOOLS if tool.name in arguments.tools]
    results = course.run(arguments.workloads, tools, arguments.repetitions, arguments.retries, arguments.output)
    print(report.table(results, None))


def measure_floors(arguments):
    measure.adopt_orphans()
    results = floors.run(arguments.dir, arguments.scale, arguments.workloads, arguments.repetitions,
                         arguments.output)
    print(report.floors_table(results))


def show(arguments):
    for tool in (tool(arguments.dir) for tool in TOOLS):
        absent = tool.missing()
        print(f"{tool.name:12} {'absent: ' + absent if absent else tool.version()}")
    for key, workload in WORKLOADS.items():
        print(f"{key:12} {workload.title}")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit(1)
