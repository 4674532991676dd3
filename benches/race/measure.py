"""What a command costs: wall, CPU with all descendants, peak memory.

A command is started by a small shell that leaves it to us, for two reasons. A
process begins its life with the peak of the process that it was forked from, and
ours is larger than what we measure. And we are the subreaper: whoever is orphaned
below a command becomes our child, so that its time is counted at its end.

Daemons are counted apart, from /proc, before and after (in ticks of 10 ms); so is
what the rest of the machine did meanwhile, which tells of a noisy run.
"""
import ctypes
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass

TICK = 1 / os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36
SERVERS = set()  # children of ours that no run is charged for or may end


class Failed(Exception):
    """A tool did not do what was asked; the race goes on without it."""


@dataclass
class Cost:
    """Sums over the commands of one run; the peak is the largest process's."""

    wall: float = 0.0
    window: float = 0.0  # what `foreign` was looked at for: longer than the commands
    cpu: float = 0.0
    rss: float = 0.0  # MiB
    registry: float = 0.0
    foreign: float = 0.0

    def noisy(self):
        """Others took more of the machine than moves a result by a few percent."""
        return self.foreign > 0.05 + 0.1 * self.window


def adopt_orphans():
    """Makes this process the subreaper of all that it starts."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def run(commands, env, log, daemons=(), registry=None, timeout=900):
    """Runs the commands one after another, and says what they cost together."""
    cost = Cost()
    daemon_cpu = sum(map(tree_cpu, daemons))
    for pid in daemons:
        _forget_peaks(pid)
    registry_cpu = tree_cpu(registry) if registry else 0.0
    busy, start = machine_busy(), time.monotonic()
    for command in commands:
        print("$", " ".join(command), file=log, flush=True)
        _run_one(command, env, log, timeout, cost)
    _reap_orphans(cost)
    cost.cpu += sum(map(tree_cpu, daemons)) - daemon_cpu
    for pid in daemons:
        cost.rss = max([cost.rss, *map(_peak, descendants(pid))])
    if registry:
        cost.registry = tree_cpu(registry) - registry_cpu
    cost.window = time.monotonic() - start
    cost.foreign = max(0.0, machine_busy() - busy - cost.cpu - cost.registry)
    return cost


def _run_one(command, env, log, timeout, cost):
    shell = subprocess.Popen(
        ["/bin/sh", "-c", 'exec 3>&1 >&2; "$@" 3>&- & echo $! >&3', "sh", *command],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    start = time.monotonic()
    pid = int(shell.stdout.read())
    shell.wait()
    status, usage = _wait(pid, start + timeout)
    cost.wall += time.monotonic() - start
    if status is None:
        os.killpg(shell.pid, signal.SIGKILL)
        _wait(pid, start + timeout + 30)
        raise Failed(f"no end after {timeout} s: {command[0]}")
    _add(cost, usage)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise Failed(f"exit code {code}: {os.path.basename(command[0])}: {last_line(log.name)}")


def last_line(path):
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no output"


def _wait(pid, deadline):
    """The status and usage of a child, or None after the deadline."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None, None
    finally:
        os.close(descriptor)
    _, status, usage = os.wait4(pid, 0)
    return status, usage


def _add(cost, usage):
    cost.cpu += usage.ru_utime + usage.ru_stime
    cost.rss = max(cost.rss, usage.ru_maxrss / 1024)


def _reap_orphans(cost):
    """Those that outlive their command by a moment belong to it; then they are ended."""
    time.sleep(0.05)
    while orphans := set(_children(os.getpid())) - SERVERS:
        for pid in orphans:
            _kill(descendants(pid))
            _, _, usage = os.wait4(pid, 0)
            _add(cost, usage)


def serve(command, env, log):
    """Starts a daemon or registry, which `end` ends."""
    with open(log, "a") as file:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                   start_new_session=True)
    SERVERS.add(process.pid)
    return process.pid


def alive(pid):
    return os.waitpid(pid, os.WNOHANG)[0] == 0


def end(pid, grace=10.0):
    """Ends a server and all below it, the deepest first."""
    below = descendants(pid)
    for each in reversed(below):
        _signal(each, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{each}/exe") for each in below[1:]):
        time.sleep(0.02)
    status, _ = _wait(pid, deadline)
    if status is None:
        _kill(below)
        os.waitpid(pid, 0)
    SERVERS.discard(pid)


def _kill(pids):
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


# --- /proc -------------------------------------------------------------------


def _stat(pid):
    """The fields of /proc/PID/stat behind the name, or None."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _parents():
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(name)):
            yield int(name), int(fields[1])


def _children(pid):
    return [child for child, parent in _parents() if parent == pid]


def descendants(pid):
    """The process and all below it, parents first."""
    below = {}
    for child, parent in _parents():
        below.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:
        found += below.get(each, [])
    return found


def tree_cpu(pid):
    """CPU seconds of a tree: of its processes, and of those that they waited for."""
    stats = filter(None, map(_stat, descendants(pid)))
    return sum(sum(map(int, fields[11:15])) for fields in stats) * TICK


def _peak(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = [line.split() for line in file if line.startswith("VmHWM:")]
    except OSError:
        return 0.0
    return int(lines[0][1]) / 1024 if lines else 0.0


def _forget_peaks(pid):
    """Sets the peak of each process of a tree to what it has now."""
    for each in descendants(pid):
        try:
            with open(f"/proc/{each}/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass  # ended meanwhile, or not ours to change: then its peak is that of its life


def machine_busy():
    """CPU seconds that the machine worked since its start, for anyone."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, hard, soft, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + hard + soft) * TICK
