"""How each tool does each kind of work: the commands, and the state they need.

A tool's state is below its own folder: home, XDG folders, store, temporary files.
"""
import os
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass

import measure

ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Job:
    """One thing to do. References have host and repository, and no tag."""

    context: str  # a folder with a Dockerfile
    end: str  # store, archive or registry
    archive: str
    target: str  # the reference to push to
    base: str  # the image to have, or to push
    name: str = "raced"


class Tool:
    name = ""
    programs = ()
    note = ""
    reads_dockerfiles = True
    makes_images = True
    keeps_store = True
    registries = ()  # the race sets them: hosts that speak plain HTTP
    layout = ""  # and this: of the image that is pushed

    def __init__(self, folder):
        self.folder = os.path.join(folder, self.name)
        self.daemons = []

    def missing(self):
        """What stops it from taking part here, or an empty text."""
        return ", ".join(f"no {program}" for program in self.programs if not shutil.which(program))

    def version(self):
        return _first_line([self.programs[0], "--version"])

    def env(self):
        env = {key: os.environ[key] for key in ("PATH", "LANG", "USER", "LOGNAME") if key in os.environ}
        env |= {f"XDG_{key}": f"{self.folder}/{key.lower()}"
                for key in ("DATA_HOME", "CACHE_HOME", "CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR")}
        return env | {"HOME": f"{self.folder}/home", "TMPDIR": f"{self.folder}/tmp"}

    def open(self):
        """Makes the empty folders; a tool with a daemon starts it."""
        for key, path in self.env().items():
            if key.startswith("XDG_") or key in ("HOME", "TMPDIR"):
                os.makedirs(path, mode=0o700)

    def close(self):
        while self.daemons:
            measure.end(self.daemons.pop())

    def takes(self, workload):
        return (self.keeps_store or not (workload.built or workload.is_push or workload.end == "store"))

    # Each gives commands, to be run one after another.

    def build(self, job):
        raise NotImplementedError

    def pull(self, reference):
        raise NotImplementedError

    def push(self, reference, target):
        raise NotImplementedError

    def alone(self, key, job):
        """The commands of a tool that reads no Dockerfile, which starts from nothing."""
        return None


class Kiln(Tool):
    name, programs = "kiln", ("kiln",)

    def build(self, job):
        end = {"store": ["-t", job.name],
               "archive": ["-t", job.name, "-o", f"type=oci,dest={job.archive}"],
               "registry": ["-t", job.target, "--push"]}
        return [["kiln", "build", *end[job.end], job.context]]

    def pull(self, reference):
        return [["kiln", "pull", reference]]

    def push(self, reference, target):
        return [["kiln", "push", reference, target]]


class Buildah(Tool):
    name, programs = "buildah", ("buildah", "runc")
    note = "Debian's"
    options = ("--pull=false",)  # "if missing" in the releases before 1.29

    def command(self, *rest):
        return [self.programs[0], "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/runroot",
                "--storage-driver", "overlay", *rest]

    def build(self, job):
        name = f"localhost/{job.name}"
        commands = [self.command("build", "--layers", "--network=host", "--tls-verify=false", *self.options,
                                 f"--jobs={os.cpu_count()}", "--runtime=runc", "-t", name, job.context)]
        if job.end == "archive":
            commands.append(self.command("push", name, f"oci-archive:{job.archive}"))
        if job.end == "registry":
            commands += self.push(name, job.target)
        return commands

    def pull(self, reference):
        return [self.command("pull", "--tls-verify=false", reference)]

    def push(self, reference, target):
        return [self.command("push", "--tls-verify=false", reference, f"docker://{target}")]


class NewBuildah(Buildah):
    name, programs = "buildah-new", ("buildah-new", "runc")
    note = "the current release"
    # It asks for a million files and processes, which not every machine lets it have.
    options = ("--pull=missing", *(
        f"--ulimit={name}={resource.getrlimit(limit)[1]}"
        for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))))


class BuildKit(Tool):
    name, programs = "buildkit", ("buildctl", "buildkitd", "runc", *(() if ROOT else ("rootlesskit",)))
    note = "with its daemon running, whose start is not counted and whose CPU is"

    def env(self):
        return super().env() | {"BUILDKIT_HOST": f"unix://{self.folder}/socket"}

    def open(self):
        super().open()
        settings = f"{self.folder}/buildkitd.toml"
        with open(settings, "w") as file:
            for host in self.registries:
                file.write(f'[registry."{host}"]\n  http = true\n')
        command = ["buildkitd", "--config", settings, "--root", f"{self.folder}/root",
                   "--addr", self.env()["BUILDKIT_HOST"], "--containerd-worker=false", "--oci-worker-net=host",
                   "--oci-worker-snapshotter=overlayfs", "--oci-worker-binary=runc"]
        if not ROOT:
            command = ["rootlesskit", "--net=host", "--copy-up=/etc", "--copy-up=/run",
                       f"--state-dir={self.folder}/rootlesskit", *command,
                       "--rootless", "--oci-worker-no-process-sandbox"]
        self.daemons = [measure.serve(command, self.env(), f"{self.folder}/daemon.log")]
        for _ in range(500):
            ready = subprocess.run(["buildctl", "debug", "workers"], env=self.env(), capture_output=True)
            if ready.returncode == 0:
                return
            if not measure.alive(self.daemons[0]):
                measure.SERVERS.discard(self.daemons.pop())
                break
            time.sleep(0.02)
        self.close()
        raise measure.Failed(f"buildkitd does not start: {measure.last_line(self.folder + '/daemon.log')}")

    def _solve(self, context, *rest):
        return ["buildctl", "build", "--progress=plain", "--frontend=dockerfile.v0",
                "--opt=attest:provenance=disabled=true", f"--local=context={context}",
                f"--local=dockerfile={context}", *rest]

    def build(self, job):
        end = {"store": [], "archive": [f"--output=type=oci,dest={job.archive}"],
               "registry": [f"--output=type=image,name={job.target},push=true"]}
        return [self._solve(job.context, *end[job.end])]

    def pull(self, reference):
        """It has no command for that, and fetches what an output needs: here one to nowhere."""
        return [self._solve(self._dockerfile("pull", f"FROM {reference}\n"), "--output=type=oci,dest=/dev/null")]

    def push(self, reference, target):
        return [self._solve(self._dockerfile("push", f"FROM {reference}\n"),
                            f"--output=type=image,name={target},push=true")]

    def _dockerfile(self, name, text):
        os.makedirs(f"{self.folder}/{name}", exist_ok=True)
        with open(f"{self.folder}/{name}/Dockerfile", "w") as file:
            file.write(text)
        return f"{self.folder}/{name}"


class Kaniko(Tool):
    """It empties and fills the root that it runs in, hence never without bubblewrap."""

    name, programs = "kaniko", ("kaniko-executor", "bwrap")
    note = "no isolation; in a root of its own; pulls its base within the clock"
    keeps_store = False

    def missing(self):
        return super().missing() or ("" if ROOT else "it needs root")

    def version(self):
        return "1.24.0 (as built by peers.sh)"

    def open(self):
        super().open()
        self.root = f"{self.folder}/root"
        for name in ("kaniko", "workspace", "etc", "proc", "dev", "tmp"):
            os.makedirs(f"{self.root}/{name}")
        shutil.copy(shutil.which("kaniko-executor"), f"{self.root}/kaniko/executor")
        with open(f"{self.root}/etc/passwd", "w") as file:
            file.write("root:x:0:0::/root:/bin/sh\n")

    def build(self, job):
        out = "kaniko/image.tar"
        end = (["--destination", job.target] if job.end == "registry" else
               ["--destination", "race.invalid/image", "--no-push", "--tar-path", f"/{out}"])
        build = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
                 "--bind", self.root, "/", "--proc", "/proc", "--dev", "/dev",
                 "--ro-bind", job.context, "/workspace", "--chdir", "/", "--clearenv",
                 "--setenv", "HOME", "/root", "--setenv", "PATH", "/kaniko:/usr/local/bin:/usr/bin:/bin",
                 "/kaniko/executor", "--force", "--insecure", "--insecure-pull", "--skip-tls-verify",
                 "--context=dir:///workspace", *end]
        move = [["mv", f"{self.root}/{out}", job.archive]] if job.end == "archive" else []
        return [build, *move]

    def pull(self, reference):
        return []


class Umoci(Tool):
    name, programs = "umoci", ("umoci", "tar")
    note = "`umoci insert` of the tree into an OCI layout"
    reads_dockerfiles = False

    def takes(self, workload):
        return workload.context in ("big", "many") and workload.end == "archive" and not workload.built

    def alone(self, key, job):
        image = f"{self.folder}/layout:raced"
        return [["umoci", "init", "--layout", f"{self.folder}/layout"], ["umoci", "new", "--image", image],
                ["umoci", "insert", *([] if ROOT else ["--rootless"]), "--image", image, f"{job.context}/tree", "/tree"],
                ["tar", "--create", f"--file={job.archive}", f"--directory={self.folder}/layout", "."]]


class Crane(Tool):
    name, programs = "crane", ("crane", "tar")
    note = "`crane append` and `crane push`"
    reads_dockerfiles = False

    def version(self):
        return _first_line(["crane", "version"])

    def takes(self, workload):
        return workload.is_push or workload.context == "app"

    def alone(self, key, job):
        if key in ("H", "I"):
            return [["crane", "push", "--insecure", self.layout, job.target]]
        layer, base = f"{self.folder}/tmp/layer.tar", job.target.rpartition("/")[0] + "/system"
        return [["tar", "--create", f"--file={layer}", f"--directory={job.context}",
                 "--transform=s,^,usr/local/bin/,", "app"],
                ["crane", "append", "--insecure", f"--base={base}", f"--new_layer={layer}", f"--new_tag={job.target}"]]


class Skopeo(Tool):
    name, programs = "skopeo", ("skopeo",)
    note = "`skopeo copy` of an OCI layout"
    reads_dockerfiles = False

    def takes(self, workload):
        return workload.is_push

    def alone(self, key, job):
        return [["skopeo", "copy", "--dest-tls-verify=false", f"oci:{self.layout}:latest", f"docker://{job.target}"]]


class Bare(Tool):
    """The work of a RUN without any builder around it."""

    name, programs = "bare", ("sh", "busybox")
    note = "the same commands on this machine, without a sandbox or an image"
    reads_dockerfiles = makes_images = False

    def version(self):
        return os.uname().release

    def takes(self, workload):
        return workload.context in ("stages", "server") or workload.context == "true" and not workload.built

    def env(self):
        return super().env() | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}

    def alone(self, key, job):
        if key == "L":
            return [["go", "-C", job.context, "build", "-o", f"{self.folder}/tmp/server", "."]]
        with open(f"{job.context}/Dockerfile") as file:
            runs = [line[4:].strip() for line in file if line.startswith("RUN ")]
        if key == "G":
            work = "\n".join(f"({run.replace('/out', self.folder + '/tmp/out')}) &" for run in runs) + "\nwait"
        else:
            work = "\n".join(f"busybox {run}" for run in runs)
        return [["busybox", "sh", "-c", work]]


TOOLS = (Kiln, NewBuildah, Buildah, BuildKit, Kaniko, Umoci, Crane, Skopeo, Bare)


def _first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ((done.stdout or done.stderr).strip().splitlines() or ["?"])[0][:100]
