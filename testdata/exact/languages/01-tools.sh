# Debian's own compilers and package managers, over the network.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends python3-venv npm golang-go cargo-web rustc-web gcc libc6-dev git ca-certificates
useradd --uid 1000 --user-group --create-home app
rm -rf /var/lib/apt/lists/*
