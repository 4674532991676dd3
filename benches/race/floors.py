"""What this machine could do at best: for each workload the parts that no builder can spare.

Each part runs alone in a child process, and its processor time counts; the least
of its repetitions is taken. A floor's CPU is the sum of its parts. Its wall time is
that sum spread over all cores, where parts can be done at once (`spread`), else the
sum of the parts' wall times: starting programs and asking registries is done in turn.
"""
import ctypes
import ctypes.util
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time

import images
import measure
from inputs import Inputs
from registry import Registry
from stores import Stores
from workloads import WORKLOADS

CHUNK = 1 << 20
FLOORS = {}


def floor(*keys, spread=True):
    """Marks a function that gives the parts of these workloads: name → function."""
    def register(parts):
        for key in keys:
            FLOORS[key] = (parts, spread)
        return parts
    return register


def run(folder, scale, keys, repetitions, path):
    folder = os.path.abspath(folder)
    stores = Stores(folder)
    inputs = Inputs(f"{folder}/inputs-{scale:g}", scale)
    need = dict.fromkeys(name for key in keys for name in WORKLOADS[key].inputs)
    inputs.make(need)
    registry = Registry(f"{stores.folder}/registry-floors")
    registry.start()
    inputs.dockerfiles(registry.host)
    ground = Ground(inputs, f"{stores.folder}/floors", registry)
    found = {"cpus": os.cpu_count(), "kernel": os.uname().release, "scale": scale, "floors": {}}
    try:
        for key in keys:
            print(f"race: floor of {key}", file=sys.stderr, flush=True)
            parts, spread = FLOORS[key]
            costs = {name: ground.cost(name, part, repetitions) for name, part in parts(ground).items()}
            cpu = sum(cpu for cpu, _ in costs.values())
            wall = cpu / os.cpu_count() if spread else sum(wall for _, wall in costs.values())
            found["floors"][key] = {"cpu": cpu, "wall": wall, "parts": {n: c for n, (c, _) in costs.items()}}
            if WORKLOADS[key].end == "archive" and (size := ground.compressed.get(WORKLOADS[key].context)):
                found["floors"][key]["bytes"] = size
            with open(path, "w") as file:
                json.dump(found, file, indent=1)
    finally:
        registry.stop()
        stores.remove_all()
    return found


class Ground:
    """Where parts work, and what they work on. A part with the same name is measured once."""

    def __init__(self, inputs, folder, registry):
        self.inputs, self.folder, self.registry = inputs, folder, registry
        self.known, self.compressed, self.serial = {}, {}, 0
        os.makedirs(folder)

    def cost(self, name, part, repetitions):
        if name not in self.known:
            self.known[name] = min(self._once(part) for _ in range(repetitions))
        return self.known[name]

    def _once(self, part):
        os.sync()
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                part()
                status = 0
            finally:
                os._exit(status)
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise SystemExit("race: a part of the floor failed; its error is above")
        return usage.ru_utime + usage.ru_stime, time.monotonic() - start

    def fresh(self):
        """A path that is not used yet, in the parent and in children."""
        self.serial += 1
        return f"{self.folder}/{os.getpid()}-{self.serial}"

    def tar(self, name):
        """The tree of a context as a tar archive, made once and not measured."""
        path = f"{self.folder}/{name}.tar"
        if not os.path.exists(path):
            subprocess.run(["tar", "--create", f"--file={path}", "--sort=name",
                            f"--directory={self.inputs.path(name)}", "tree"], check=True)
        return path

    def gzip(self, name):
        """The same compressed by gzip -6: the size that a builder is held against."""
        path = self.tar(name) + ".gz"
        if not os.path.exists(path):
            with open(path, "wb") as file:
                subprocess.run(["gzip", "-6", "--to-stdout", "--no-name", self.tar(name)], stdout=file, check=True)
        self.compressed[name] = os.path.getsize(path)
        return path


# --- the parts ---------------------------------------------------------------


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            digest.update(data)


def write(path, to):
    """As many bytes as the file has, from memory: the disk follows later."""
    with open(path, "rb") as source:
        data = source.read(CHUNK)
    with open(to, "wb", buffering=0) as target:
        for _ in range(os.path.getsize(path) // CHUNK):
            target.write(data)


def deflate(paths):
    """libdeflate at level 6, in pieces; what does not shrink is given up after a taste."""
    library, compressor = _libdeflate("libdeflate_alloc_compressor", 6)
    bound = CHUNK * 2
    room = ctypes.create_string_buffer(bound)
    work = library.libdeflate_deflate_compress
    work.restype = ctypes.c_size_t
    work.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    for path in paths:
        with open(path, "rb") as file:
            while data := file.read(CHUNK):
                taste = data[:CHUNK // 64]
                if work(compressor, taste, len(taste), room, bound) < len(taste) * 0.98:
                    work(compressor, data, len(data), room, bound)


def inflate(image):
    library, decompressor = _libdeflate("libdeflate_alloc_decompressor")
    work = library.libdeflate_gzip_decompress
    work.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t,
                     ctypes.c_void_p]
    for layer in image["layers"]:
        with open(images.blob_path(image, layer["digest"]), "rb") as file:
            data = file.read()
        size = int.from_bytes(data[-4:], "little")
        room = ctypes.create_string_buffer(size)
        if work(decompressor, data, len(data), room, size, None):
            raise SystemExit("race: libdeflate cannot read a layer")


def _libdeflate(allocate, *arguments):
    name = ctypes.util.find_library("deflate")
    if not name:
        raise SystemExit("race: no libdeflate for the floors; peers.sh gets it (libdeflate-tools)")
    library = ctypes.CDLL(name)
    make = getattr(library, allocate)
    make.restype = ctypes.c_void_p
    return library, make(*arguments)


def stat_all(tree):
    subprocess.run(["find", tree, "-printf", "%s"], stdout=subprocess.DEVNULL, check=True)


def read_all(tree):
    """As tar reads a tree, to nowhere; through `cat`, since tar sees through /dev/null."""
    subprocess.run(f"tar --create --directory='{tree}' . | cat >/dev/null", shell=True, check=True)


def start(times):
    subprocess.run(["busybox", "sh", "-c", "i=0; while [ $i -lt %d ]; do busybox true; i=$((i+1)); done" % times],
                   check=True)


def upload(registry, pieces, repository):
    """Blobs one after another on one connection; then asks for each once."""
    connection = http.client.HTTPConnection(registry.host)

    def ask(method, path, body=None, headers=None):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        answer.read()
        return answer

    for digest, data in pieces.items():
        place = ask("POST", f"/v2/{repository}/blobs/uploads/", b"").getheader("location")
        place = place.partition(registry.host)[2] or place
        mark = "&" if "?" in place else "?"
        answer = ask("PUT", f"{place}{mark}digest={digest}", data, {"content-type": "application/octet-stream"})
        if answer.status != 201:
            raise SystemExit(f"race: the registry answers {answer.status} to a blob")
    return ask


@floor("A", "AS")
def _big(ground):
    tar, gz = ground.tar("big"), ground.gzip("big")
    tree = ground.inputs.path("big", "tree")
    return {"sha256 of the tar": lambda: sha256(tar), "sha256 of the layer": lambda: sha256(gz),
            "deflate": lambda: deflate(sorted(f"{tree}/{name}" for name in os.listdir(tree))),
            "write the layer": lambda: write(gz, ground.fresh())}


@floor("B")
def _many(ground):
    tar, gz = ground.tar("many"), ground.gzip("many")
    return {"read 50,000 files": lambda: read_all(ground.inputs.path("many", "tree")),
            "sha256 of the tar (many)": lambda: sha256(tar), "deflate (many)": lambda: deflate([tar]),
            "sha256 of the layer (many)": lambda: sha256(gz), "write the layer (many)": lambda: write(gz, ground.fresh())}


@floor("BS")
def _many_to_store(ground):
    tar = ground.tar("many")
    return {"read 50,000 files": lambda: read_all(ground.inputs.path("many", "tree")),
            "sha256 of the tar (many)": lambda: sha256(tar), "write the tar (many)": lambda: write(tar, ground.fresh())}


@floor("F")
def _one_changed(ground):
    tar, gz = ground.tar("many"), ground.gzip("many")
    return {"stat 50,000 files": lambda: stat_all(ground.inputs.path("many", "tree")),
            "sha256 of the tar (many)": lambda: sha256(tar), "sha256 of the layer (many)": lambda: sha256(gz),
            "write the layer (many)": lambda: write(gz, ground.fresh())}


@floor("E1", spread=False)
def _nothing_changed(ground):
    return {"stat 50,000 files": lambda: stat_all(ground.inputs.path("many", "tree"))}


@floor("C", "CO", spread=False)
def _twenty(ground):
    return {"20 × fork and exec": lambda: start(20)}


@floor("E2", "D", "DP", spread=False)
def _one(ground):
    return {"fork and exec": lambda: start(1)}


@floor("G", spread=False)
def _stages(ground):
    turns = ground.inputs.have["spins"]["turns"]
    loop = f"(i=0; while [ $i -lt {turns} ]; do i=$((i+1)); done) & "
    return {"the loops": lambda: subprocess.run(["busybox", "sh", "-c", loop * 4 + "wait"], check=True)}


@floor("H", spread=False)
def _push(ground):
    image = ground.inputs.have["ten"]

    def part():
        digests = [layer["digest"] for layer in image["layers"]]
        upload(ground.registry, {digest: open(images.blob_path(image, digest), "rb") for digest in digests},
               f"h{time.monotonic_ns()}")
    return {"upload 10 × 50 MiB": part}


@floor("I", spread=False)
def _push_again(ground):
    image = ground.inputs.have["ten"]
    ground.registry.fill("again", image)

    def part():
        ask = upload(ground.registry, {}, "again")
        for blob in [image["config"], *image["layers"]]:
            ask("HEAD", f"/v2/again/blobs/{blob['digest']}")
        ask("HEAD", "/v2/again/manifests/latest")
    return {"ask for 12 things": part}


@floor("J", spread=False)
def _append(ground):
    path = ground.inputs.path("app", "app")

    def part():
        sha256(path)
        deflate([path])
        with open(path, "rb") as file:
            data = file.read()
        upload(ground.registry, {"sha256:" + hashlib.sha256(data).hexdigest(): data}, f"j{time.monotonic_ns()}")
    return {"hash, deflate and upload 1 MiB": part}


@floor("K")
def _unpack(ground):
    image = ground.inputs.have["system"]
    blobs = [images.blob_path(image, layer["digest"]) for layer in image["layers"]]
    tars = [f"{ground.folder}/system-{number}.tar" for number in range(len(blobs))]
    for blob, tar in zip(blobs, tars):
        with open(tar, "wb") as file:
            subprocess.run(["gzip", "--decompress", "--stdout", blob], stdout=file, check=True)

    def unpack():
        for tar in tars:
            to = ground.fresh()
            os.mkdir(to)
            subprocess.run(["tar", "--extract", f"--file={tar}", f"--directory={to}", "--no-same-owner"], check=True)

    return {"sha256 of the layers": lambda: [sha256(blob) for blob in blobs], "inflate": lambda: inflate(image),
            "sha256 of the tars": lambda: [sha256(tar) for tar in tars], "write the layers":
            lambda: [write(blob, ground.fresh()) for blob in blobs], "make the files": unpack}


@floor("L", spread=False)
def _compile(ground):
    def part():
        home = ground.fresh()
        env = os.environ | {"HOME": home, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
        for name in ("GOCACHE", "GOPATH", "XDG_CACHE_HOME"):
            env.pop(name, None)
        subprocess.run(["go", "-C", ground.inputs.path("server"), "build", "-o", f"{home}/server", "."],
                       env=env, check=True)
    return {"go build": part}
