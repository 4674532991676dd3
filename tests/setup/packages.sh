# Debian packages: what is missing is installed, and nothing is started.

packages=(
  apache2-utils binutils bubblewrap buildah busybox-static ca-certificates conntrack containerd
  containernetworking-plugins crun curl db5.3-util debootstrap docker-registry etcd-server
  git golang-go iproute2 openssl podman rpm runc skopeo strace time uidmap umoci xz-utils zstd
)

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  # Packages of servers start them, unless the policy says no.
  local policy=/usr/sbin/policy-rc.d made=
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    made=yes
  fi
  local status=0
  as_root apt-get -qq update || say "apt-get update: some lists are old"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o=Dpkg::Use-Pty=0 install --yes \
    --no-install-recommends "${missing[@]}" >"$temp/apt.log" 2>&1 || status=$?
  [[ -z $made ]] || as_root rm -f "$policy"
  if ((status)); then
    tail -n 20 "$temp/apt.log" >&2
    die "apt-get cannot install what the tests need"
  fi
}
