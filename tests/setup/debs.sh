# Debian packages for builds that install them without a network: a repository
# for `deb [trusted=yes] file:/debs ./` in the image `debian`, whose own packages
# are not in it.

debs_packages=(
  # Users, daemons, capabilities, set-user-ID and set-group-ID files.
  acl adduser at attr busybox chrony cron dbus fuse3 git gnupg gosu iputils-ping
  libcap2-bin man-db memcached mosquitto nginx-light nullmailer openssh-server
  passwd plocate postgresql-15 postgresql-common procps python3-minimal redis-server
  rsync screen ssl-cert sudo tcpdump uidmap util-linux
  # What testdata/hello-debian installs, and what hello-python and hello-node stand on.
  hello nodejs python3-pip
)

# After `make_images`. Sets `KILN_TEST_DEBS`, the folder of the repository.
make_debs() {
  local key
  key=$({
    cat "$root/tests/setup/debs.sh"
    images_key
  } | sha256sum | cut -c1-16)
  KILN_TEST_DEBS=$cache/debs/$key
  if [[ ! -d $KILN_TEST_DEBS ]]; then
    say "fetching packages for tests of RUN, once"
    local new=$KILN_TEST_DEBS.new
    rm -rf "$new"
    mkdir -p "$new"
    fetch_debs "$temp/debs" "$new"
    mv -T "$new" "$KILN_TEST_DEBS"
  fi
  # What older lists fetched.
  find "$cache/debs" -mindepth 1 -maxdepth 1 -type d ! -name "$key" -mtime +7 -exec rm -rf {} +
}

# fetch_debs WORK TO: by the machine's apt, with the image's state instead of its own.
fetch_debs() {
  local work=$1 to=$2 layer options
  mkdir -p "$work"/{lists,archives}/partial
  layer=$(debian_layer)
  tar --extract --gzip --to-stdout --file "$layer" ./var/lib/dpkg/status >"$work/status"
  debian_sources >"$work/sources.list"
  options=(
    -qq -o Dir::State::status="$work/status" -o Dir::State::lists="$work/lists"
    -o Dir::Cache="$work" -o Dir::Cache::archives="$work/archives"
    -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o APT::Install-Recommends=false
    -o Debug::NoLocking=true -o APT::Sandbox::User=
  )
  if ! { apt-get "${options[@]}" update &&
    apt-get "${options[@]}" --yes --download-only install "${debs_packages[@]}"; } >"$temp/debs.log" 2>&1; then
    tail -n 20 "$temp/debs.log" >&2
    die "apt-get cannot fetch what the tests install"
  fi
  mv "$work/archives"/*.deb "$to"
  chmod 644 "$to"/*.deb
  index_debs "$to" >"$work/Packages"
  mv "$work/Packages" "$to/Packages"
  rm -rf "$work"
}

# The one layer of the image `debian`.
debian_layer() {
  local manifest
  manifest=$(sed 's/.*"digest":"sha256:\([0-9a-f]*\)".*/\1/' "$images/debian/index.json")
  sed 's/.*"layers":\[{[^}]*"digest":"sha256:\([0-9a-f]*\)".*/\1/' "$images/debian/blobs/sha256/$manifest" |
    sed "s,^,$images/debian/blobs/sha256/,"
}

# index_debs FOLDER: its `Packages` file.
index_debs() {
  local deb
  for deb in "$1"/*.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat --format %s "$deb")" \
      "$(sha256sum "$deb" | cut -d ' ' -f 1)"
  done
}
