# Debian's own compilers and interpreters, over the network.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends python3-venv nodejs golang-go cargo-web rustc-web gcc libc6-dev ca-certificates
useradd --uid 1000 --user-group --create-home app
rm -rf /var/lib/apt/lists/*
