# Programs that are built from their Go modules, which the checksum database vouches for, and
# kept in the cache:
#   crane         a reader of registries that shares no code with skopeo; it is one, too
#   distribution  a registry of distribution 3, what most people run as `registry:3`, beside
#                 Debian's of distribution 2
#   conformance   the distribution spec's own tests of registries, of which no release has a
#                 program
#   cosign        the peer for signatures; it takes a while
programs=(crane distribution conformance cosign)
modules=(
  github.com/google/go-containerregistry/cmd/crane@v0.22.1
  github.com/distribution/distribution/v3/cmd/registry@v3.1.1
  github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111
  github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
)

# After `find_go`. Sets `KILN_TEST_NAME` for each, empty where it cannot be built; those are
# in `lacking` then.
make_programs() {
  local at name module folder why
  lacking=()
  for at in "${!programs[@]}"; do
    name=${programs[at]} module=${modules[at]}
    folder=$cache/$name-${module##*@} why=
    local -n path=KILN_TEST_${name^^}
    path=$folder/$(basename "${module%@*}")
    if [[ ! -x $path ]]; then
      if [[ -z $goroot ]]; then
        why=$go_why
      else
        say "building $name, once"
        go_program "$module" "$folder" ||
          why="it cannot be built: $(tail -n 5 "$temp/go-program.log")"
      fi
    fi
    if [[ -n $why ]]; then
      say "NO ${name^^}: what needs it is skipped, since: $why"
      path=
      lacking+=("$name")
    fi
  done
}

# copy_programs FOLDER: for a user who cannot read the cache; the variables follow.
copy_programs() {
  local name
  for name in "${programs[@]}"; do
    local -n path=KILN_TEST_${name^^}
    if [[ -n $path ]]; then
      cp "$path" "$1/$name" || return
      path=$1/$name
    fi
  done
}
