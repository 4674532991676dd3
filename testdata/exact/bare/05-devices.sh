# Devices, fifos and sockets.
set -eu
. /steps/view.sh
mkdir -p /d && cd /d
mknod null c 1 3; mknod -m 660 disk b 8 1 2>/dev/null || without_proc chmod 660 disk; mknod big c 4095 1048575; mknod pipe p; mknod whiteout-like c 0 1
chown 5:6 null; chown root:disk disk; chown -h daemon pipe; chmod 4755 big
cp -a disk disk-alone; cp -a null null-copy; cp -a disk disk-copy; cp -a pipe pipe-copy; cp -R null null-r
mv null-copy null-moved; ln disk disk-link; ln -s null null-symlink
mv disk-copy /dev/shm/disk-away; stat -c '%F %t:%T %a %u:%g' /dev/shm/disk-away >was-away; mv /dev/shm/disk-away disk-back
tar -cf t.tar null disk disk-link big pipe; mkdir out; tar -xpf t.tar -C out; tar -tvf t.tar --numeric-owner | sed 's/ [0-9]\{4\}-[0-9-]* [0-9:]* / /' >list; rm t.tar
mkdir -m 2775 gd; chgrp 300 gd; chmod 2775 gd; mknod gd/c c 1 5; mknod gd/p p; mknod gd/b b 7 0
for i in 1 2 3; do mknod x c 1 $i; chown $i:$i x; rm x; : >x; rm x; done; : >x
mknod y c 1 7; rm y; mkfifo y; mknod z c 1 8; mv -f z y
test -c null && test -b disk && test -p pipe && ! test -f null && echo seen >seen
perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("/d/sock")) or die; chown 7, 8, "/d/sock"; chmod 0640, "/d/sock"; my @s = stat "/d/sock"; printf "%o %d:%d\n", @s[2, 4, 5]' >socket
rm sock
ls -ln null disk disk-alone disk-link disk-back big gd/b gd/c | awk '{ print $1, $3, $4, $5, $6, $NF }' >ls
view devices
