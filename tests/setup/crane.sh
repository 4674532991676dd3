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
    else
      say "building crane $crane_version, once"
      go_program "github.com/google/go-containerregistry/cmd/crane@v$crane_version" "$folder" ||
        why=$(tail -n 5 "$temp/go-program.log")
    fi
  fi
  if [[ -n $why ]]; then
    say "NO CRANE: what reads with it is skipped, since: $why"
    no_crane=yes
    return
  fi
  KILN_TEST_CRANE=$folder/crane
}
