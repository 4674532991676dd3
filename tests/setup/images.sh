# The base images, as OCI layouts made from the machine's own parts and its
# Debian mirror, since tests reach no registry but their own:
#
#   debian    bookworm, minimal and without documentation, as its `-slim` is
#   busybox   Debian's static busybox; an index of two platforms
#   golang    debian and a Go toolchain; its own layer is compressed with zstd
#
# The same recipe on the same packages gives the same digests.

images_epoch=1735689600

# Sets `images`, the folder of the layouts.
make_images() {
  local key
  key=$(images_key)
  images=$cache/images/$key
  if [[ ! -d $images ]]; then
    say "making the base images, once"
    mkdir -p "$cache/images"
    exec 8>"$cache/images/lock"
    flock 8
    if [[ ! -d $images ]]; then
      local new=$images.new
      rm -rf "$new"
      mkdir -p "$new"
      make_busybox "$new/busybox"
      make_debian "$new/debian"
      make_golang "$new/golang" "$new/debian"
      mv -T "$new" "$images"
    fi
    exec 8>&-
  fi
  # What older recipes made.
  find "$cache/images" -mindepth 1 -maxdepth 1 -type d ! -name "$key" -mtime +7 -exec rm -rf {} +
}

images_key() {
  {
    cat "$root/tests/setup/images.sh"
    debian_sources
    apt_settings
    [[ -z $goroot ]] || cat "$goroot/VERSION"
    dpkg-query --show busybox-static debootstrap
    dpkg --print-architecture
  } | sha256sum | cut -c1-16
}

# --- what the machine knows about Debian -------------------------------------

# The machine's first source of bookworm.
debian_mirror() {
  apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT) $(CREATED_BY)' |
    awk '$2 == "bookworm" && $3 == "main" && $4 == "Packages" { print $1; exit }'
}

# The machine's sources of bookworm, in the one-line form.
debian_sources() {
  local options='signed-by=/usr/share/keyrings/debian-archive-keyring.gpg'
  apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT) $(CREATED_BY)' |
    awk -v options="$options" '
      $2 ~ /^bookworm(-security|-updates)?$/ && $3 == "main" && $4 == "Packages" {
        line = "deb [" options "] " $1 " " $2 " " $3
        if (!seen[line]++) print line
      }'
}

# How the machine's apt reaches its mirror: proxies and authorities.
apt_settings() {
  apt-config dump | grep -E '^Acquire::((http|https)::|Check-)' | grep -v '""' || true
}

# --- the images --------------------------------------------------------------

make_busybox() {
  local layout=$1 tree=$temp/busybox applet
  mkdir -p "$tree"/{bin,dev,etc,home,proc,root,sbin,sys,tmp,usr/bin,usr/sbin,var}
  chmod 1777 "$tree/tmp"
  cp "$(command -v busybox)" "$tree/bin/busybox"
  for applet in $("$tree/bin/busybox" --list); do
    [[ $applet == busybox ]] || ln -s busybox "$tree/bin/$applet"
  done
  printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'daemon:x:1:1:daemon:/usr/sbin:/bin/false' \
    'nobody:x:65534:65534:nobody:/home:/bin/false' >"$tree/etc/passwd"
  printf '%s\n' 'root:x:0:' 'daemon:x:1:' 'users:x:100:' 'nogroup:x:65534:' >"$tree/etc/group"
  local arch other here there
  arch=$(dpkg --print-architecture)
  [[ $arch == arm64 ]] && other=amd64 || other=arm64
  start_layout "$layout"
  pack "$tree" "$temp/busybox.tar"
  add_layer "$layout" "$temp/busybox.tar" gzip
  add_manifest "$layout" "$arch" '"Cmd":["sh"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
  here=$manifest
  # Nothing in it runs anywhere: whoever takes it has chosen the wrong platform.
  mkdir -p "$temp/busybox-other/bin"
  echo "for $other" >"$temp/busybox-other/bin/sh"
  chmod 755 "$temp/busybox-other/bin/sh"
  pack "$temp/busybox-other" "$temp/busybox-other.tar"
  reset_layers
  add_layer "$layout" "$temp/busybox-other.tar" gzip
  add_manifest "$layout" "$other" '"Cmd":["sh"]'
  there=$manifest
  # The other platform comes first: taking the first of an index is a mistake.
  finish_index "$layout" "$there" "$here"
}

make_debian() {
  local layout=$1 tree=$temp/debian mirror
  mirror=$(debian_mirror)
  [[ -n $mirror ]] || die "this machine's apt has no source of bookworm"
  say "debootstrap of bookworm"
  if ! as_root debootstrap --variant=minbase --merged-usr bookworm "$tree" "$mirror" \
    >"$temp/debootstrap.log" 2>&1; then
    tail -n 20 "$temp/debootstrap.log" >&2
    die "debootstrap"
  fi
  debian_sources | as_root tee "$tree/etc/apt/sources.list" >/dev/null
  apt_settings | as_root tee "$tree/etc/apt/apt.conf.d/50machine" >/dev/null
  local file
  for file in $(apt_settings | sed -n 's,^Acquire::.*\(CaInfo\|SslCert\|SslKey\) "\(/.*\)";$,\2,p'); do
    as_root install -D -m 644 "$file" "$tree$file"
  done
  # As in Debian's own images: no documentation, no kept archives.
  as_root tee "$tree/etc/dpkg/dpkg.cfg.d/slim" >/dev/null <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/lintian/*
END
  as_root tee "$tree/etc/apt/apt.conf.d/50slim" >/dev/null <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
END
  as_root find "$tree/usr/share/doc" -type f ! -name copyright -delete
  as_root find "$tree/usr/share/doc" -depth -type d -empty -delete
  # What differs from one making to the next, or is the machine's.
  as_root bash -euc 'cd "$1"
    rm -rf usr/share/{man,info,locale,lintian}/* var/cache/apt/* var/cache/ldconfig/* \
      var/cache/debconf/*-old var/lib/apt/lists/* var/log/* var/lib/dpkg/*-old \
      etc/hostname etc/resolv.conf etc/*- tmp/* run/*
    mkdir -p var/cache/apt/archives/partial var/lib/apt/lists/partial
    : >etc/machine-id
    sed -i "s/^\([^:]*:[^:]*\):[0-9]*:/\1:20089:/" etc/shadow' - "$tree"
  start_layout "$layout"
  pack "$tree" "$temp/debian.tar"
  as_root rm -rf "$tree"
  add_layer "$layout" "$temp/debian.tar" gzip
  add_manifest "$layout" "$(dpkg --print-architecture)" \
    '"Cmd":["bash"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
  debian_layers=$layers debian_diff_ids=$diff_ids
  finish_index "$layout" "$manifest"
}

# After `make_debian`, whose layers it stands on.
make_golang() {
  local layout=$1 debian=$2 tree=$temp/golang from=$goroot cgo=
  if [[ -z $from ]]; then
    from=$(cd / && go env GOROOT)
    say "golang: Debian's own Go ($(cd / && go env GOVERSION))"
    # This old one looks for a C compiler and fails; newer ones do without.
    cgo='"CGO_ENABLED=0",'
  fi
  mkdir -p "$tree/usr/local/go" "$tree/go/src" "$tree/go/bin"
  # Debian's parts are links to elsewhere. Left out is what no build reads: the
  # sources of the commands, and tests.
  tar --create --dereference --directory "$from" --exclude './src/cmd' --exclude './test' \
    --exclude './api' --exclude './doc' --exclude './misc' --exclude testdata \
    --exclude '*_test.go' . | tar --extract --directory "$tree/usr/local/go"
  chmod 1777 "$tree/go" "$tree/go/src" "$tree/go/bin"
  start_layout "$layout"
  cp -l "$debian"/blobs/sha256/* "$layout/blobs/sha256/"
  layers=$debian_layers diff_ids=$debian_diff_ids
  pack "$tree" "$temp/golang.tar"
  rm -rf "$tree"
  add_layer "$layout" "$temp/golang.tar" zstd
  add_manifest "$layout" "$(dpkg --print-architecture)" \
    '"Cmd":["bash"],"WorkingDir":"/go","Env":["PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",'"$cgo"'"GOPATH=/go","GOTOOLCHAIN=local"]'
  finish_index "$layout" "$manifest"
}

# --- OCI layouts, written by hand --------------------------------------------

# pack FOLDER TAR: in one order, without times of today, owned by numbers.
pack() {
  local owner=()
  # Only debootstrap's tree has owners that mean something.
  [[ $1 == "$temp/debian" ]] || owner=(--owner=0 --group=0)
  as_root tar --create --file "$2" --directory "$1" --sort=name --numeric-owner --format=posix \
    --pax-option='exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime' \
    --mtime="@$images_epoch" --clamp-mtime "${owner[@]}" --exclude './dev/*' .
  as_root chown "$(id -u):$(id -g)" "$2"
}

reset_layers() {
  layers='' diff_ids='' manifest=''
}

start_layout() {
  mkdir -p "$1/blobs/sha256"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$1/oci-layout"
  reset_layers
}

# add_blob LAYOUT FILE: moves it in; sets `digest` and `size`.
add_blob() {
  digest=sha256:$(sha256sum "$2" | cut -d ' ' -f 1)
  size=$(stat --format %s "$2")
  mv "$2" "$1/blobs/sha256/${digest#sha256:}"
}

# add_layer LAYOUT TAR gzip|zstd: adds to `layers` and `diff_ids`.
add_layer() {
  local digest size diff_id
  diff_id=sha256:$(sha256sum "$2" | cut -d ' ' -f 1)
  case $3 in
    gzip) gzip --no-name --stdout "$2" >"$2.packed" ;;
    zstd) zstd --quiet --threads=1 --stdout "$2" >"$2.packed" ;;
  esac
  rm "$2"
  add_blob "$1" "$2.packed"
  layers+=${layers:+,}$(printf '{"mediaType":"application/vnd.oci.image.layer.v1.tar+%s","digest":"%s","size":%d}' \
    "$3" "$digest" "$size")
  diff_ids+=${diff_ids:+,}\"$diff_id\"
}

# add_manifest LAYOUT ARCHITECTURE CONFIG: of the layers; sets `manifest`, its descriptor.
add_manifest() {
  local digest size created
  created=$(date --utc --date "@$images_epoch" +%Y-%m-%dT%H:%M:%SZ)
  printf '{"created":"%s","architecture":"%s","os":"linux","config":{%s},"rootfs":{"type":"layers","diff_ids":[%s]},"history":[%s]}' \
    "$created" "$2" "$3" "$diff_ids" "$(history "$created")" >"$temp/config.json"
  add_blob "$1" "$temp/config.json"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[%s]}' \
    "$digest" "$size" "$layers" >"$temp/manifest.json"
  add_blob "$1" "$temp/manifest.json"
  manifest=$(printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d,"platform":{"architecture":"%s","os":"linux"%s}}' \
    "$digest" "$size" "$2" "$([[ $2 == arm64 ]] && printf ',"variant":"v8"')")
}

# One entry for each layer.
history() {
  local entries='' layer
  for layer in ${diff_ids//,/ }; do
    entries+=${entries:+,}'{"created":"'$1'","created_by":"kiln tests: '${layer:8:12}'"}'
  done
  printf '%s' "$entries"
}

# finish_index LAYOUT MANIFEST...: names the image `latest`; several make an index.
finish_index() {
  local layout=$1 digest size named='"annotations":{"org.opencontainers.image.ref.name":"latest"}'
  shift
  if (($# > 1)); then
    local all
    all=$(IFS=,; echo "$*")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}' \
      "$all" >"$temp/index.json"
    add_blob "$layout" "$temp/index.json"
    set -- "$(printf '{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"%s","size":%d}' "$digest" "$size")"
  fi
  printf '{"schemaVersion":2,"manifests":[%s]}' "${1%\}},$named}" >"$layout/index.json"
}
