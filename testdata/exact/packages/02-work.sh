# What the packages are for.
set -eu
. /steps/view.sh
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --no-install-recommends postgresql-15
# Times of sources are in compiled Python.
export PYTHONDONTWRITEBYTECODE=1
mkdir -p /p && chmod 1777 /p && cd /p
useradd --uid 1000 --user-group --create-home --shell /bin/bash ann
useradd --uid 70000 --user-group --create-home far
usermod --append --groups sudo,ssl-cert,postgres ann
echo 'ann ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/ann; chmod 440 /etc/sudoers.d/ann
visudo --check --quiet
{
	each sudo -u ann id
	each sudo -u ann -g www-data sh -c 'id; echo 1 >/p/sudo-1; mkdir /p/sudo-d'
	each su ann -c 'sudo -n id'
	each su ann -c 'sudo -n -u postgres sh -c "id; echo 2 >/p/sudo-2"'
	each su ann -c 'sudo -n install -o far -g 70000 -m 6750 /bin/true /p/sudo-3'
	each sudo -u "#5000" -g "#5001" id
	each gosu ann id
	each gosu 5000:5001 sh -c 'id; echo 3 >/p/gosu-1'
	each gosu ann:ssl-cert sh -c 'id; mkdir /p/gosu-d; touch /p/gosu-d/f'
	each gosu nobody gosu root true
	each busybox chpst -u ann true
	each busybox su ann -c 'id; touch /p/busybox-su'
	cp /bin/sh ssd; each busybox start-stop-daemon -S -c ann -x /p/ssd -- -c 'id; touch /p/busybox-ssd'
	each python3 -c 'import os; os.setresgid(5001, 5001, 5001); os.setresuid(5000, 5000, 5000); print(os.getresuid(), os.getresgid()); os.mkdir("/p/python"); os.mkfifo("/p/python/fifo")'
	each python3 -c 'import os; os.setgroups([1, 2, 7001]); os.initgroups("ann", 7002); os.setregid(7002, 7003); os.setreuid(-1, 7000); print(os.getresuid(), os.getresgid(), os.getgroups()); os.mkdir("/p/python-2")'
	each python3 -c '
import os
try:
    os.setuid(1000); os.setuid(0)
except PermissionError as e:
    print(e)'
	each python3 -c 'import subprocess; print(subprocess.run(["sh", "-c", "id; echo s >/p/python-3"], user="ann", group="postgres", extra_groups=[7, 8], umask=0o027).returncode)'
	each python3 -c '
import socket, struct, os
a, b = socket.socketpair()
print(struct.unpack("3i", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:])
os.setresgid(5001, 5001, 5001); os.setresuid(5000, 5000, 5000)
a, b = socket.socketpair()
print(struct.unpack("3i", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:])'
} >log-switch 2>&1

# Attributes: capabilities, and others.
cp /bin/true cap; setcap cap_net_bind_service=+ep cap; chown 5:6 cap; setcap cap_net_raw,cap_chown=eip cap; getcap cap >caps
cp -a cap cap-a; cp --preserve=all cap cap-p; mv cap /dev/shm/cap; mv /dev/shm/cap cap; cp cap cap-none; install cap cap-installed
setfattr -n user.note -v text cap; ln cap cap-link; rsync -aX cap cap-rsync; tar --xattrs --xattrs-include='*' -cf - cap | (mkdir untar; tar --xattrs --xattrs-include='*' -C untar -xf -)
setcap -r cap-a; getcap -r / 2>/dev/null | LC_ALL=C sort >>caps
getfattr -d -m - -R -h --absolute-names /p 2>/dev/null >attributes || true
chown 7 cap-p; su ann -c 'cp /p/cap /p/cap-ann'

# rsync, archives.
mkdir -p tree/d; echo 1 >tree/f; ln tree/f tree/h; ln -s f tree/l; mkfifo tree/p; mknod tree/c c 1 3; mknod tree/b b 7 7
chown -Rh ann:far tree; chown 70001:70002 tree/d; chmod 6755 tree/f; chmod 3775 tree/d; chown -h 5:6 tree/l tree/c
rsync -aH tree/ sync; rsync -aH --chown=www-data:adm tree/ sync-chown; rsync -a --no-owner --no-group tree/ sync-root
su ann -c 'rsync -aH --no-devices --no-specials /p/sync/ /p/sync-ann' 
export GIT_AUTHOR_DATE='@1000000000 +0000' GIT_COMMITTER_DATE='@1000000000 +0000'
git init --quiet repository; git -C repository -c user.name=a -c user.email=a@invalid commit --quiet --allow-empty --message=1
{
	each su ann -c 'git -C /p/repository log -1 --format=%s'
	chown -R ann: repository
	each git -C repository log -1 --format=%s
	each su ann -c 'git -C /p/repository log -1 --format=%s'
} >log-git 2>&1

# Servers that check who they are and whose their files are.
mkdir -p /run/sshd; sshd -t
# Ports below 1024 are the machine's where its network is used.
sed -i 's/listen 80 /listen 8080 /; s/listen \[::\]:80 /listen [::]:8080 /' /etc/nginx/sites-available/default; nginx -t 2>/dev/null
# What is denied to a user is not the same everywhere, so nothing is here.
mkdir -m 755 pg; chown postgres: pg
{
	each /usr/lib/postgresql/15/bin/initdb -D /p/pg-root
	each su postgres -c 'cd /p/pg; /usr/lib/postgresql/15/bin/initdb -D /p/pg/data --no-sync --auth=peer >/dev/null'
	each su postgres -c 'cd /p/pg; /usr/lib/postgresql/15/bin/pg_ctl -D data -o "-c listen_addresses= -k /p/pg" -l log -w start >/dev/null'
	each su postgres -c 'psql -h /p/pg -Atc "select current_user"'
	each psql -h /p/pg -U postgres -Atc 'select 1'
	each su postgres -c 'createuser -h /p/pg ann; createdb -h /p/pg ann'
	each su ann -c 'psql -h /p/pg -Atc "select current_user"'
	each su postgres -c 'cd /p/pg; /usr/lib/postgresql/15/bin/pg_ctl -D data -m fast -w stop >/dev/null'
	chown ann pg/data; chmod 755 pg/data
	each su postgres -c 'cd /p/pg; /usr/lib/postgresql/15/bin/pg_ctl -D data -w -t 5 start 2>&1 | grep -i -o "wrong ownership" | head -n 1'
} >log-postgres 2>&1
sed -i 's/, PID [0-9]*//; s/PID: [0-9]*//' log-postgres
su ann -c 'mkdir -m 700 ~/.gnupg; gpg --batch --quiet --passphrase "" --quick-generate-key ann@invalid default default never; gpg --batch --quiet --list-keys >/dev/null; gpgconf --kill all'
su ann -c 'ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/id_ed25519'
su ann -c 'echo "* * * * * true" | crontab -; crontab -l' >log-cron 2>&1; stat -c '%a %U:%G' /var/spool/cron/crontabs/ann >>log-cron
su ann -c 'echo true | at now + 100 days' >log-at 2>&1 || true
dbus-uuidgen --ensure; updatedb || true; man-db --version >/dev/null 2>&1 || true; mandb --quiet || true
redis-server --version >/dev/null; su redis -s /bin/sh -c 'touch /var/lib/redis/mine'
screen -version >/dev/null || true
su ann -c 'newuidmap 1 0 0 1; echo $?' >log-newuidmap 2>&1
dpkg --verify >log-verify 2>&1 || true
view work
