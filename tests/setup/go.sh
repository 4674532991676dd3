# A Go that is new enough for the Kubernetes of the tests, which is also the Go
# of the image `golang`: the machine's own, else the toolchain module that newer
# Go commands fetch by themselves, fetched by Debian's older one. The checksum
# database vouches for it.

go_fetched=1.26.0

# go_new_enough GO: prints nothing; true if its version serves.
go_new_enough() {
  local need have
  need=$(sed -n 's/^go //p' "$root/tests/kube/go.mod")
  have=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
  [[ -n $have && $(printf '%s\n' "$need" "${have#go}" | sort -V | head -n 1) == "$need" ]]
}

# Sets `goroot`, and puts that Go first in PATH. Returns 1 with the reason in `go_why`.
find_go() {
  local go fetched=$cache/go/$go_fetched
  goroot='' go_why=''
  for go in "$(command -v go || true)" /usr/local/go/bin/go "$fetched/bin/go"; do
    if [[ -x $go ]] && go_new_enough "$go"; then
      goroot=$(cd / && GOTOOLCHAIN=local "$go" env GOROOT)
      break
    fi
  done
  if [[ -z $goroot ]]; then
    fetch_go "$fetched" || return 1
    goroot=$fetched
  fi
  PATH=$goroot/bin:$PATH
}

fetch_go() {
  local to=$1 module modules=$temp/go-modules
  module=golang.org/toolchain@v0.0.1-go$go_fetched.linux-$(dpkg --print-architecture)
  say "fetching Go $go_fetched, since the machine's is too old"
  if ! (cd / && env -u GOFLAGS GOPATH="$modules" GOMODCACHE="$modules" go mod download "$module") \
    2>"$temp/go.log"; then
    go_why="Go $go_fetched cannot be fetched: $(tail -n 1 "$temp/go.log")"
    return 1
  fi
  mkdir -p "$(dirname "$to")"
  rm -rf "$to.new"
  cp -R "$modules/$module" "$to.new"
  chmod -R u+w "$modules" "$to.new"
  rm -rf "$modules"
  # Archives of modules carry no permissions.
  chmod 755 "$to.new"/bin/*
  find "$to.new/pkg/tool" -type f -exec chmod 755 {} +
  go_new_enough "$to.new/bin/go" || {
    go_why="the fetched Go $go_fetched does not run"
    return 1
  }
  mv -T "$to.new" "$to"
}

# go_program PACKAGE@VERSION FOLDER: builds a program into a folder, which appears whole.
go_program() {
  local made=$temp/go-program name=${1%@*}
  name=${name##*/}
  (cd / && env -u GOFLAGS -u GOOS -u GOARCH GOBIN="$made" GOTOOLCHAIN=local CGO_ENABLED=0 \
    go install -trimpath -ldflags '-s -w' "$1") >"$temp/go-program.log" 2>&1 </dev/null || return
  # Whoever sees the file sees all of it.
  mkdir -p "$2" &&
    cp "$made/$name" "$2/$name.$$" &&
    mv -T "$2/$name.$$" "$2/$name"
}
