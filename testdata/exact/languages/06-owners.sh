# user: root
# workdir: /
set -eu
cp -a /opt/python /opt/python-2
chown -R app:daemon /opt/python-2
find / -xdev -user app | wc -l
tar -cf - -C /opt node | (mkdir /opt/copy; tar -xpf - -C /opt/copy)
