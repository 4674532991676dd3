# Folders with the set-group-ID bit, and who makes what in them.
set -eu
. /steps/view.sh
mkdir -p /g && cd /g && chmod 777 /g
mkdir -m 2777 one; chgrp 300 one; chmod 2777 one
mkdir one/sub; mkdir -p one/sub/deep/er; echo f >one/f; ln -s f one/l; mkfifo one/p; echo s >one/sub/deep/er/s
chmod 2777 one/sub
su ann -s /bin/sh -c 'umask 002; cd /g/one; mkdir ann-d; echo a >ann-f; ln -s x ann-l; mkfifo ann-p; echo b >ann-d/b; mkdir sub/ann; chmod 2700 ann-d; touch ann-x; chmod 2755 ann-x'
setpriv --reuid 5000 --regid 5001 --clear-groups sh -c 'cd /g/one; : >five; mkdir five-d; chmod 2775 five; chmod g+s five-d; chgrp 5001 five-d; cp /bin/true five-s; chmod 6755 five-s'
cp one/f one/f2; cp -p one/f one/f3; mv one/f3 one/f4; cp -r one two; cp -a one three
mv one/f /g/moved; echo n >n; mv n one/n
mkdir four; chmod 2777 four; chgrp 400 four
tar -C one -cf - . | tar -C four -xf -
mkdir five; chgrp 500 five; chmod 2777 five; tar -C one -cf - . | tar -C five -xf - --no-same-owner
# Explicitly root's in a folder of another group.
echo r >one/root; chown 0:0 one/root; mkdir one/root-d; chown 0:0 one/root-d; chmod g-s one/root-d; echo r >one/root-d/r
chgrp -R 0 one/sub/deep
# The bit comes and goes.
mkdir -m 2777 late; chgrp 310 late; chmod 2777 late; echo 1 >late/1; chmod g-s late; echo 2 >late/2; mkdir late/d
mkdir -m 777 soon; chgrp 320 soon; echo 1 >soon/1; chmod g+s soon; echo 2 >soon/2; mkdir soon/d; echo 3 >soon/d/3; chgrp 330 soon; echo 4 >soon/4
# Sticky.
mkdir -m 1777 sticky; chown ann: sticky
setpriv --reuid 5000 --regid 5001 --clear-groups sh -c 'echo 5 >/g/sticky/five'
view setgid
