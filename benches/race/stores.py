"""What tools leave behind, and when it is removed.

ext4 makes files slowly for minutes after thousands were removed, and the tool whose
turn is next would pay for it. So an old store is moved away, its large files (which
cost little) are removed, and the rest goes when nothing is measured any more. On a
tmpfs, where room is scarce and removal costs nothing later, all goes at once.
"""
import os
import shutil
import subprocess

LARGE = "1024k"


class Stores:
    """The folder that tools work in, and the old stores beside it."""

    def __init__(self, folder):
        self.folder, self.old = f"{folder}/tools", f"{folder}/old"
        os.makedirs(self.folder, exist_ok=True)
        os.makedirs(self.old, exist_ok=True)
        self.serial = 0
        self.in_memory = _filesystem(folder) == "tmpfs"

    def retire(self, path):
        if not os.path.lexists(path):
            return
        _unmount_below(path)
        self.serial += 1
        aside = f"{self.old}/{os.getpid()}-{self.serial}"
        os.rename(path, aside)
        if self.in_memory:
            _remove(aside)
        else:
            _as_owner('find "$1" -xdev -type f -size +%s -delete' % LARGE, aside)

    def remove_all(self):
        for path in (self.folder, self.old):
            _unmount_below(path)
            _remove(path)


def _remove(path):
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        _as_owner('chmod -R u+rwX "$1"; rm -rf "$1"', path)


def _as_owner(script, path):
    """Files of a rootless tool may belong to the user's subordinate IDs."""
    enter = [] if os.geteuid() == 0 else ["unshare", "--map-auto", "--map-root-user"]
    for prefix in (enter, []):
        if subprocess.run([*prefix, "sh", "-c", script, "sh", path], capture_output=True).returncode == 0:
            return


def _unmount_below(path):
    if os.geteuid() == 0:
        below = [where for where, _ in _mounts() if where.startswith(path + "/")]
        for where in sorted(below, reverse=True):
            subprocess.run(["umount", "--lazy", where], capture_output=True)


def _mounts():
    with open("/proc/self/mounts") as file:
        for line in file:
            _, where, kind, *_ = line.split()
            yield where.encode().decode("unicode_escape"), kind


def _filesystem(path):
    above = [(where, kind) for where, kind in _mounts()
             if where == "/" or path == where or path.startswith(where + "/")]
    # The last of those mounted on one folder is the one to be seen.
    return max(enumerate(above), key=lambda each: (len(each[1][0]), each[0]))[1][1]
