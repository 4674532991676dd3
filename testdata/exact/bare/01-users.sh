# Users and groups, by all the tools that the image has.
set -eu
. /steps/view.sh
groupadd --gid 2000 builders
groupadd --system --gid 210 sysgroup
useradd --uid 1000 --user-group --create-home --shell /bin/sh ann
useradd --uid 1001 --gid builders --groups sysgroup,daemon --create-home --home-dir /srv/ben ben
useradd --uid 70000 --user-group --no-create-home --shell /usr/sbin/nologin far
useradd --system --uid 211 --gid sysgroup --home-dir /var/lib/svc --create-home svc
adduser --quiet --uid 1003 --disabled-password --gecos '' cid
adduser --quiet --system --uid 212 --group --home /var/lib/sys2 sys2
addgroup --quiet --gid 2100 more
adduser --quiet cid more
usermod --append --groups builders ann
usermod --uid 1010 --gid more cid
usermod --home /home/moved --move-home cid
groupmod --gid 2110 more
echo 'ann:secret' | chpasswd --encrypted
passwd --quiet --lock ben
chage --lastday 20000 ann
gpasswd --add cid sysgroup
gpasswd --delete cid sysgroup
useradd --uid 1020 --create-home gone
userdel --remove gone
chsh --shell /bin/bash ann
# The day of a change is today.
sed -i 's/^\([^:]*:[^:]*\):[0-9]*:/\1:20000:/' /etc/shadow /etc/shadow-
stat --format '%n %a %u:%g' /etc/passwd* /etc/group* /etc/shadow* /etc/gshadow* /etc/sub?id*
view users
