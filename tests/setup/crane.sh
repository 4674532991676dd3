# crane, a reader of registries that shares no code with skopeo: built from the
# Go module, which the checksum database vouches for, and kept in the cache.

crane_version=0.22.1

# After `find_go`. Sets `KILN_TEST_CRANE`, empty where crane cannot be built.
make_crane() {
  local folder=$cache/crane-$crane_version why=
  KILN_TEST_CRANE=
  if [[ ! -x $folder/crane ]]; then
    if [[ -z $goroot ]]; then
      why=$go_why
    elif ! build_crane "$folder"; then
      why=$(tail -n 5 "$temp/crane.log")
    fi
  fi
  if [[ -n $why ]]; then
    say "NO CRANE: the test that reads with it is skipped, since: $why"
    no_crane=yes
    return
  fi
  KILN_TEST_CRANE=$folder/crane
}

build_crane() {
  local to=$1 module=github.com/google/go-containerregistry
  say "building crane $crane_version, once"
  (cd / && env -u GOFLAGS -u GOOS -u GOARCH GOBIN="$temp/crane" GOTOOLCHAIN=local CGO_ENABLED=0 \
    go install -trimpath -ldflags '-s -w' "$module/cmd/crane@v$crane_version") \
    >"$temp/crane.log" 2>&1 </dev/null || return
  # Whoever sees the file sees all of it.
  mkdir -p "$to" &&
    cp "$temp/crane/crane" "$to/crane.$$" &&
    mv -T "$to/crane.$$" "$to/crane"
}
