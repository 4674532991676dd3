"""What is raced: the workloads A to L, and what kiln is to reach in each.

"Store" as an end means the tool's ordinary result, from which it can run, push or
build on. BuildKit's is its cache, where layers are not packed yet: that flatters it
in BS, C, D, E and G; the twins that end in an archive or a registry do not.
"""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Goal:
    """`measure` is to be at most `ratio` times that of `against`: a tool, `best` (the
    best peer that reads Dockerfiles), `floor` or `limit` (the ratio is the number)."""

    measure: str
    ratio: float
    against: str = "best"


def both(ratio, against="best"):
    return (Goal("wall", ratio, against), Goal("cpu", ratio, against))


@dataclass(frozen=True)
class Workload:
    title: str
    inputs: tuple
    context: str
    end: str  # store, archive or registry
    goals: tuple = ()
    # Done before the clock starts: pull the image of this name, and use it as a base
    # once; build; build and then change a file; push.
    base: str = ""
    built: bool = False
    changed: bool = False
    pushed: bool = False
    # Peers that do not count for `best`.
    apart: tuple = field(default=())

    @property
    def is_push(self):
        """Whether the command is a push of `base`, instead of a build."""
        return not self.context


def peak(mib):
    return Goal("rss", mib, "limit")


WORKLOADS = {
    "A": Workload("COPY of 1 GiB in 64 files, to an OCI archive", ("big",), "big", "archive",
                  (Goal("wall", 1 / 3), *both(1, "umoci"), Goal("bytes", 650 / 648, "floor"), peak(32))),
    "AS": Workload("the same to the own store", ("big",), "big", "store"),
    "B": Workload("COPY of 50,000 files, to an OCI archive", ("many",), "many", "archive",
                  (Goal("wall", 1 / 8), Goal("cpu", 1 / 6), Goal("bytes", 45 / 44.8, "floor"), peak(32))),
    "BS": Workload("the same to the own store", ("many",), "many", "store", both(1 / 9)),
    "C": Workload("20 × RUN true, to the own store", ("busybox",), "true", "store",
                  (*both(1 / 10), peak(10)), base="busybox"),
    "CO": Workload("the same to an OCI archive", ("busybox",), "true", "archive",
                   (*both(1 / 12), *both(1, "kaniko")), base="busybox", apart=("kaniko",)),
    "D": Workload("RUN that touches 3 files of a 390 MB base, to the own store", ("system",), "touch", "store",
                  both(1 / 7), base="system"),
    "DP": Workload("the same, pushed beside its base", ("system",), "touch", "registry",
                   both(1 / 10), base="system"),
    "E1": Workload("B (to the own store) again, nothing changed", ("many",), "many", "store",
                   both(1 / 10), built=True),
    "E2": Workload("C again, nothing changed", ("busybox",), "true", "store",
                   (*both(1 / 10), peak(10)), base="busybox", built=True),
    "F": Workload("B again, one file changed", ("many",), "many", "archive",
                  (*both(1 / 18), Goal("bytes", 46 / 44.8, "floor")), built=True, changed=True),
    "G": Workload("4 stages of 2 s of work each, COPY --from all", ("busybox", "spins"), "stages", "store",
                  (Goal("wall", 1.03, "bare"),), base="busybox"),
    "H": Workload("push of 10 × 50 MiB to an empty registry", ("ten",), "", "registry",
                  (*both(1, "crane"), peak(32)), base="ten"),
    "I": Workload("the same push again", ("ten",), "", "registry",
                  (*both(1, "crane"), peak(10)), base="ten", pushed=True),
    "J": Workload("COPY of 1 MiB onto a 390 MB base of the registry, pushed there; the store is empty",
                  ("system",), "app", "registry", (*both(1 / 100), *both(1, "crane"))),
    "K": Workload("pull of a 390 MB base in 6 layers, and RUN true on it", ("system",), "first", "store",
                  (Goal("wall", 1 / 2.5),)),
    "L": Workload("go build of an HTTP server, COPY --from into scratch", ("golang",), "server", "store",
                  both(1.02, "bare"), base="golang"),
}
