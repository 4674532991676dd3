# user: 1000:1000
# As a user without root's rights from the start.
set -eu
. /steps/view.sh
cd /tmp
id; pwd; echo "$HOME"
mkdir t; echo f >t/f; ln -s f t/l; mkfifo t/p; mkdir -m 2770 t/d; echo d >t/d/d; chmod 4750 t/f; ln t/f t/h
cp -a t u; tar -cf - t | (mkdir v; cd v; tar -xf -)
{ each chown 1001 t/f; each chgrp 1000 t/f; each chgrp 2000 t/f; each chown :1000 t/l; each mknod c c 1 3; each chmod 700 /tmp; each id; each umask; } >log 2>&1
touch /home/ann/by-number
find / \( -path /proc -o -path /sys -o -path /dev -o -path /view \) -prune -o -uid 1000 -printf '%p %y %m %U:%G\n' 2>/dev/null | LC_ALL=C sort >seen
