"""A registry of the race's own, on the loopback interface."""
import http.client
import json
import os
import shutil
import socket
import time

import images
import measure


class Registry:
    """Debian's docker-registry (or another build of it, `registry`) over one folder."""

    def __init__(self, folder):
        self.folder, self.pid = folder, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"

    def start(self):
        program = shutil.which("docker-registry") or shutil.which("registry")
        if not program:
            raise SystemExit("race: no registry to push to; peers.sh gets one")
        os.makedirs(self.folder, exist_ok=True)
        settings = self.folder + ".json"
        with open(settings, "w") as file:
            json.dump({"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
                       "storage": {"filesystem": {"rootdirectory": self.folder}},
                       "http": {"addr": self.host}}, file)
        self.pid = measure.serve([program, "serve", settings], dict(os.environ), self.folder + ".log")
        for _ in range(500):
            try:
                if self._ask("GET", "/v2/")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise SystemExit(f"race: {program} does not answer; see {self.folder}.log")

    def stop(self):
        if self.pid:
            measure.end(self.pid)
            self.pid = None

    def fill(self, repository, image):
        """Puts an image of ours there, unless it is there."""
        base = f"/v2/{repository}"
        if self._ask("HEAD", f"{base}/manifests/latest")[0] == 200:
            return
        for blob in [image["config"], *image["layers"]]:
            _, headers, _ = self._ask("POST", f"{base}/blobs/uploads/", b"")
            place = headers["location"].partition(self.host)[2] or headers["location"]
            mark = "&" if "?" in place else "?"
            with open(images.blob_path(image, blob["digest"]), "rb") as body:
                self._expect(201, "PUT", f"{place}{mark}digest={blob['digest']}", body,
                             {"content-length": str(blob["size"]), "content-type": "application/octet-stream"})
        self._expect(201, "PUT", f"{base}/manifests/latest", images.manifest(image),
                     {"content-type": images.MANIFEST})

    def weigh(self, repository, tag="latest"):
        """The bytes of an image's layers, and how many there are."""
        accept = ", ".join([images.MANIFEST, images.INDEX,
                            "application/vnd.docker.distribution.manifest.v2+json"])
        status, _, body = self._ask("GET", f"/v2/{repository}/manifests/{tag}", None, {"accept": accept})
        if status != 200:
            raise measure.Failed(f"the registry has no {repository}:{tag}, although the push succeeded")
        found = json.loads(body)
        if "manifests" in found:
            return self.weigh(repository, found["manifests"][0]["digest"])
        return sum(layer["size"] for layer in found["layers"]), len(found["layers"])

    def _expect(self, status, *request):
        got, _, body = self._ask(*request)
        if got != status:
            raise SystemExit(f"race: the registry answers {got} to {request[0]} {request[1]}: {body[:300]!r}")

    def _ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host, timeout=300)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()
