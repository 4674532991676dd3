#!/bin/bash
# Gets the other builders that kiln is raced against: `peers.sh [FOLDER]`.
#
# Debian's packages are installed if root runs this; the rest is built from Go
# modules into FOLDER (default: target/race/peers), where race.py looks first.
# What is there already is kept. What cannot be had is named at the end, and is
# a line "absent" in the race's table.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p "${1:-target/race/peers}"
peers=$(cd "${1:-target/race/peers}" && pwd)
PATH=$PATH:/usr/local/go/bin
absent=()

debian=(
  # What the race itself needs: a registry, a shell for images, compressors.
  docker-registry busybox-static gzip libdeflate-tools openssl
  # Peers, and what they need to be built, and for a rootless RUN.
  gcc libc6-dev libseccomp-dev pkg-config
  buildah umoci skopeo runc crun netavark uidmap fuse-overlayfs rootlesskit bubblewrap
)

# go_program NAME PACKAGE VERSION [BUILD FLAG...]: many of these modules have
# `replace` lines, so that `go install` refuses them by name. A module of our
# own that requires them takes them as any dependency.
go_program() {
  local name=$1 package=$2 version=$3 work
  shift 3
  [[ -x $peers/$name ]] && return
  work=$(mktemp -d)
  if ! (
    cd "$work" && go mod init race.invalid/peer && go get "$package@$version" &&
      GOFLAGS=-mod=mod go build -trimpath -o "$peers/$name.new" "$@" "$package" &&
      mv "$peers/$name.new" "$peers/$name"
  ) >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    absent+=("$name")
  fi
  rm -rf "$work"
}

if ((EUID == 0)); then
  for package in "${debian[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' && continue
    apt-get install --yes --quiet --no-install-recommends "$package" >/dev/null || absent+=("$package")
  done
else
  echo "not root: Debian's packages are left as they are" >&2
fi

if command -v go >/dev/null; then
  export CGO_ENABLED=0 GOTOOLCHAIN=local
  buildkit=v0.32.2
  stamp="-s -w -X github.com/moby/buildkit/version.Version=$buildkit"
  go_program crane github.com/google/go-containerregistry/cmd/crane v0.22.1 \
    -ldflags "-s -w -X github.com/google/go-containerregistry/cmd/crane/cmd.Version=0.22.1"
  go_program buildctl github.com/moby/buildkit/cmd/buildctl $buildkit -ldflags "$stamp"
  go_program buildkitd github.com/moby/buildkit/cmd/buildkitd $buildkit -ldflags "$stamp"
  # It empties the root that it runs in: race.py gives it one of its own.
  go_program kaniko-executor github.com/GoogleContainerTools/kaniko/cmd/executor v1.24.0 -ldflags "-s -w"
  # Debian's is some years old. It enters its namespaces in C.
  CGO_ENABLED=1 go_program buildah-new go.podman.io/buildah/cmd/buildah v1.44.0 -ldflags "-s -w" \
    -tags "seccomp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper containers_image_openpgp"
else
  absent+=(crane buildkit kaniko buildah-new)
fi

echo "peers in $peers; absent: ${absent[*]:-none}"
