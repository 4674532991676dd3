# One step as real root, in mount, pid, ipc and uts namespaces of its own:
# ROOT STEPS DEBS USER WORKDIR STEP.
root=$1 user=$4 workdir=$5 step=$6
umask 022
hostname kiln
mount --make-rprivate /
mount --bind "$root" "$root"
mkdir "$root/steps" "$root/debs"
[ -e "$root/etc/hosts" ] || : >"$root/etc/hosts"
[ -e "$root/etc/resolv.conf" ] || : >"$root/etc/resolv.conf"
mount --bind -o ro "$2" "$root/steps"
mount --bind -o ro "$3" "$root/debs"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0'; do
	set -- $device
	mknod -m 666 "$root/dev/$1" c "$2" "$3"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "$root/dev/${stream#*:}"; done
cat >"$root/tmp/hosts" <<END
127.0.0.1	localhost kiln
::1	localhost ip6-localhost ip6-loopback
END
mv "$root/tmp/hosts" "$root/dev/hosts"
mount --bind "$root/dev/hosts" "$root/etc/hosts"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"

# `USER`: a name, or numbers.
case $user in
*:*) ids="--reuid=${user%:*} --regid=${user#*:} --groups=${user#*:}" home=/ uid=${user%:*} ;;
*) ids="--reuid=$user --init-groups" home= uid=$user ;;
esac
exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	sh -euc 'ids=$1 home=$2 uid=$3 workdir=$4
		entry=$(getent passwd "$uid" || true)
		[ -z "$entry" ] || home=$(echo "$entry" | cut -d : -f 6)
		case $ids in *--init-groups) ids="$ids --regid=$(echo "$entry" | cut -d : -f 4)" ;; esac
		# As BuildKit: what of the working folder is new is the user'"'"'s.
		first=$workdir
		while [ "$first" != / ] && ! [ -e "$(dirname "$first")" ]; do first=$(dirname "$first"); done
		[ -e "$first" ] || { mkdir -p "$workdir"; chown -R "$(echo "$entry" | cut -d : -f 3,4)" "$first"; }
		cd "$workdir"
		exec setpriv $ids -- env HOME="$home" sh "/steps/$5"' sh "$ids" "$home" "$uid" "$workdir" "$step"
