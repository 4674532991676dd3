# A registry of distribution 3, what most people run as `registry:3`, beside Debian's of
# distribution 2: built as crane is, and kept in the cache.

distribution_version=3.1.1

# After `find_go`. Sets `KILN_TEST_DISTRIBUTION`, empty where it cannot be built.
make_distribution() {
  local folder=$cache/distribution-$distribution_version why=
  KILN_TEST_DISTRIBUTION=
  if [[ ! -x $folder/registry ]]; then
    if [[ -z $goroot ]]; then
      why=$go_why
    else
      say "building distribution $distribution_version, once"
      go_program github.com/distribution/distribution/v3/cmd/registry@v$distribution_version \
        "$folder" || why=$(tail -n 5 "$temp/go-program.log")
    fi
  fi
  if [[ -n $why ]]; then
    say "NO DISTRIBUTION 3: the tests against it are skipped, since: $why"
    no_distribution=yes
    return
  fi
  KILN_TEST_DISTRIBUTION=$folder/registry
}
