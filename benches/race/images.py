"""Base images, written as folders of blobs: layers, config and their descriptors."""
import gzip
import hashlib
import io
import json
import os
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DAY = 1735689600  # of all files: 2025-01-01


class Layer:
    """One layer being written; what gzip makes of it is the same each time."""

    def __init__(self, folder, level=6):
        self.folder, self.part = folder, os.path.join(folder, "part")
        self.file = open(self.part, "wb")
        self.digest, self.diff_id, self.size = hashlib.sha256(), hashlib.sha256(), 0
        self.gzip = gzip.GzipFile("", "wb", level, self, mtime=0)
        self.tar = tarfile.open(fileobj=_Tee(self.diff_id, self.gzip), mode="w|", format=tarfile.GNU_FORMAT)

    def write(self, data):
        """Takes compressed bytes."""
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()

    def folder_entry(self, path, mode=0o755):
        self._entry(path, tarfile.DIRTYPE, mode)

    def link(self, path, target):
        self._entry(path, tarfile.SYMTYPE, 0o777, target=target)

    def add(self, path, data, mode=0o644):
        self._entry(path, tarfile.REGTYPE, mode, data)

    def _entry(self, path, kind, mode, data=b"", target=""):
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.linkname = kind, mode, target
        entry.mtime, entry.size = DAY, len(data)
        self.tar.addfile(entry, io.BytesIO(data))

    def finish(self):
        """The layer's descriptor and its diff ID."""
        self.tar.close()
        self.gzip.close()
        self.file.close()
        name = self.digest.hexdigest()
        os.rename(self.part, os.path.join(self.folder, name))
        return descriptor(LAYER, name, self.size), "sha256:" + self.diff_id.hexdigest()


class _Tee:
    def __init__(self, digest, file):
        self.digest, self.file = digest, file

    def write(self, data):
        self.digest.update(data)
        return self.file.write(data)


def descriptor(kind, name, size):
    return {"mediaType": kind, "digest": f"sha256:{name}", "size": size}


def finish(folder, layers, env):
    """The image of these layers, as race's inputs keep it."""
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux", "config": {"Env": env}, "created": "2025-01-01T00:00:00Z",
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        "history": [{"created_by": "race"} for _ in layers],
    }).encode()
    name = hashlib.sha256(config).hexdigest()
    with open(os.path.join(folder, name), "wb") as file:
        file.write(config)
    return {"folder": folder, "config": descriptor(CONFIG, name, len(config)),
            "layers": [layer for layer, _ in layers]}


def manifest(image):
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": image["config"],
                       "layers": image["layers"]}).encode()


def blob_path(image, digest):
    return os.path.join(image["folder"], digest.partition(":")[2])


def layout(image, folder):
    """An OCI layout of the image, whose blobs are links to ours."""
    blobs = os.path.join(folder, "blobs", "sha256")
    os.makedirs(blobs)
    for blob in [image["config"], *image["layers"]]:
        path = blob_path(image, blob["digest"])
        os.link(path, os.path.join(blobs, os.path.basename(path)))
    body = manifest(image)
    name = hashlib.sha256(body).hexdigest()
    with open(os.path.join(blobs, name), "wb") as file:
        file.write(body)
    entry = descriptor(MANIFEST, name, len(body))
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    for path, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}),
                          ("index.json", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})):
        with open(os.path.join(folder, path), "w") as file:
            json.dump(content, file)


def weigh_archive(path):
    """The bytes of the layers in an OCI or docker archive, their number, and their entries."""
    with tarfile.open(path) as archive:
        members = {os.path.normpath(member.name): member for member in archive}

        def read(name):
            return json.load(archive.extractfile(members[name]))

        if "index.json" in members:
            document = read("index.json")
            while "manifests" in document:
                document = read("blobs/" + document["manifests"][0]["digest"].replace(":", "/"))
            names = ["blobs/" + layer["digest"].replace(":", "/") for layer in document["layers"]]
        else:
            names = [os.path.normpath(name) for name in read("manifest.json")[0]["Layers"]]
        entries = 0
        for name in names:
            entries += _count(archive.extractfile(members[name]))
        return sum(members[name].size for name in names), len(names), entries


def _count(layer):
    """The entries of a gzipped layer."""
    entries = 0
    # tarfile's own gzip stops behind the first member.
    with gzip.GzipFile(fileobj=layer) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as tar:
        try:
            for _ in tar:
                entries += 1
        except tarfile.ReadError:
            pass  # umoci's tars end without the blocks of zeros
    return entries
