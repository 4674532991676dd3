# The ordinary user of the rootless half, where the script runs as root.

test_user=kiln-test

make_user() {
  getent passwd "$test_user" >/dev/null || useradd --create-home --shell /bin/sh "$test_user"
  local file first
  for file in /etc/subuid /etc/subgid; do
    [[ -e $file ]] || : >"$file"
    grep -q "^$test_user:" "$file" && continue
    # Behind every range that is given away.
    first=$(awk -F: '{ end = $2 + $3; if (end > most) most = end } END { print (most > 100000 ? most : 100000) }' "$file")
    echo "$test_user:$first:65536" >>"$file"
  done
}

# Groups that the user may divide, one in each hierarchy that has a controller
# kiln sets limits by; sets `groups`. Where none can be made, the tests of
# limits check the refusal instead.
make_groups() {
  groups=()
  local name=kiln-test-$$ at folder controller file
  if [[ $(stat --file-system --format %T /sys/fs/cgroup) == cgroup2fs ]]; then
    folder=/sys/fs/cgroup/$name
    for controller in memory cpu pids; do
      echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
    done
    # A group with processes hands nothing on, so theirs is one below.
    if mkdir -p "$folder/main" 2>/dev/null; then
      for file in "" cgroup.procs cgroup.subtree_control cgroup.threads main main/cgroup.procs \
        main/cgroup.subtree_control main/cgroup.threads; do
        chown "$test_user" "$folder/$file"
      done
      for controller in memory cpu pids; do
        echo "+$controller" >"$folder/cgroup.subtree_control" 2>/dev/null || true
      done
      groups=("$folder/main" "$folder")
    fi
    return
  fi
  for controller in memory cpu pids; do
    at=$(awk -v c="$controller" '$3 == "cgroup" && ("," $4 ",") ~ ("," c ",") { print $2; exit }' /proc/mounts)
    if [[ -n $at ]] && mkdir "$at/$name" 2>/dev/null; then
      chown -R "$test_user" "$at/$name"
      groups+=("$at/$name")
    fi
  done
}

remove_groups() {
  local group
  for group in "${groups[@]}"; do
    [[ ! -d $group ]] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

# as_user COMMAND...: in the user's groups, with an environment of the tests' own.
as_user() {
  local group gid home
  gid=$(id -g "$test_user")
  home=$(getent passwd "$test_user" | cut -d: -f6)
  (
    for group in "${groups[@]}"; do
      [[ $group != */main && -d $group/main ]] || echo "$BASHPID" >"$group/cgroup.procs"
    done
    cd "$copy"
    exec setpriv --reuid "$test_user" --regid "$gid" --init-groups --reset-env \
      env HOME="$home" TMPDIR="$copy/tmp" PATH="$PATH" RUST_BACKTRACE="${RUST_BACKTRACE:-1}" \
      "${exports[@]}" "$@"
  )
}
