# 35 packages and what they stand on.
set -eu
. /steps/view.sh
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
echo 'deb [trusted=yes] file:/debs ./' >/etc/apt/sources.list
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends \
	acl adduser at attr busybox chrony cron dbus fuse3 git gnupg gosu iputils-ping libcap2-bin man-db \
	memcached mosquitto nginx-light nullmailer openssh-server passwd plocate postgresql-common procps \
	python3-minimal redis-server rsync screen ssl-cert sudo tcpdump uidmap util-linux
apt-get install --yes --no-install-recommends --reinstall cron sudo nullmailer
view install
