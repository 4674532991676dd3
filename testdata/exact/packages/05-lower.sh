# user: root
set -eu
. /steps/view.sh
export DEBIAN_FRONTEND=noninteractive
export PYTHONDONTWRITEBYTECODE=1
cd /p
chown -Rh 200:201 sync-chown/d; mv tree tree-2; chown -h 5:7 sync/l sync/p sync/c
setcap cap_chown=ep cap-none; chmod 755 cap-p; mv cap-rsync cap-moved; cp -a cap-moved cap-again
apt-get remove --yes mosquitto memcached; apt-get purge --yes screen at; apt-get install --yes --reinstall --no-install-recommends openssh-server
userdel --remove far; usermod --uid 1100 ann; find /p /home /var/spool -user 1000 ! -type l \( -type d -o -links 1 \) -exec chown 1101 {} +
dpkg-statoverride --update --add ann ssl-cert 4750 /usr/bin/tcpdump
chown -R --from=postgres redis pg/work
rm -rf /var/lib/apt/lists/*
view lower
