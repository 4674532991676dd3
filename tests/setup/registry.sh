# Registries on loopback, in the state folder, and the `registries.conf` that
# sends Docker Hub's names to the first.

# start_registry NAME [USER PASSWORD]: sets `registry_address`.
start_registry() {
  local name=$1 folder=$state/$1 auth='' pid
  mkdir -p "$folder"
  if (($# == 3)); then
    htpasswd -Bbn "$2" "$3" >"$folder/htpasswd"
    auth="auth: {htpasswd: {realm: kiln-test, path: \"$folder/htpasswd\"}}"
  fi
  # Port 0: the kernel picks a free one, and the log names it.
  cat >"$folder/config.yml" <<END
version: 0.1
log: {level: info, accesslog: {disabled: true}}
http: {addr: "127.0.0.1:0"}
storage: {filesystem: {rootdirectory: "$folder/data"}, delete: {enabled: true}}
$auth
END
  docker-registry serve "$folder/config.yml" >"$folder/log" 2>&1 </dev/null 8>&- 9>&- &
  pid=$!
  remember_process "$pid"
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    registry_address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$folder/log" | head -n 1)
    [[ -z $registry_address ]] || return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$folder/log" >&2
  die "docker-registry does not start"
}

# push_image LAYOUT NAME:TAG [OPTION...]
push_image() {
  local layout=$1 name=$2
  shift 2
  skopeo --insecure-policy copy --quiet --all --dest-tls-verify=false "$@" \
    "oci:$images/$layout:latest" "docker://$KILN_TEST_REGISTRY/$name" >"$temp/skopeo.log" 2>&1 || {
    cat "$temp/skopeo.log" >&2
    die "cannot push $name to the registry"
  }
}

start_registries() {
  start_registry open
  KILN_TEST_REGISTRY=$registry_address
  KILN_TEST_USER=tester
  KILN_TEST_PASSWORD=$(openssl rand -hex 12)
  start_registry closed "$KILN_TEST_USER" "$KILN_TEST_PASSWORD"
  KILN_TEST_REGISTRY_AUTH=$registry_address
  push_image busybox library/busybox:latest
  # Docker's own manifest and layer types.
  push_image busybox library/busybox:docker --format v2s2
  push_image debian library/debian:bookworm-slim
  push_image golang library/golang:latest
  CONTAINERS_REGISTRIES_CONF=$state/registries.conf
  cat >"$CONTAINERS_REGISTRIES_CONF" <<END
[[registry]]
prefix = "docker.io"
location = "docker.io"

[[registry.mirror]]
location = "$KILN_TEST_REGISTRY"
insecure = true
END
}
