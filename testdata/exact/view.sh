# view NAME: what the process itself sees of everything, into /view/NAME. Link counts
# of folders are the file system's own affair.
view() {
	mkdir -p /view
	find / \( -path /proc -o -path /sys -o -path /dev -o -path /steps -o -path /debs -o -path /view \
		-o -path /etc/hosts -o -path /etc/resolv.conf \) -prune -o \
		-type d -printf '%p %y %m %U:%G\n' -o -printf '%p %y %m %U:%G %n %l\n' | LC_ALL=C sort >"/view/$1"
	# By what `stat` says: with one ID, folders list devices as files.
	sed -n 's/ [bc] [0-7]* [0-9]*:[0-9]* [0-9]* $//p' "/view/$1" | xargs -r stat --format '%n %F %t:%T' >>"/view/$1.devices"
}

# each COMMAND...: runs it, and writes down how it ended.
each() {
	echo "\$ $*"
	"$@" 2>&1 && echo "= 0" || echo "= $?"
}

# without_proc COMMAND...: does in another way what has failed for want of `/proc`, as
# glibc's fchmodat does where the tier has none.
without_proc() {
	[ ! -e /proc/self ] || exit 1
	"$@"
}
