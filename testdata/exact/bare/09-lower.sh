# user: 0
# Changes to what lower layers have.
set -eu
. /steps/view.sh
cd /o
chown -h 101:102 tree/a/dangling; chown -Rh 103:104 tree/a/b
mv tree/a/l1 tree/a/l1-moved
chmod g+w copy-a/a/f1; touch copy-a/a/b/f2; echo more >>copy-p/a/f1
mv copy-p/p copy-p/p2; mv out-p out-q
mv d6755 d-moved; rmdir d2745
rm copy-r/a/f1; echo new >copy-r/a/f1
chown 111 installed; chmod 4755 installed-far
# Not of what has more names already: overlayfs gives each name that is changed a file
# of its own, and so does every builder that stands on it.
ln away2/d/d lower-link; ln l-alone lower-link-2
cd /d
mv null n2; chown 9:9 disk-alone; cp -a big big2; rm big; chmod 640 pipe; ln n2 n3
mv out out2
cd /g
echo late >one/late; mkdir one/sub/late; chmod g-s two; mv three drei; echo x >drei/x; echo y >drei/ann-d/y; mv one/ann-l one/ann-l2
su ann -s /bin/sh -c 'echo z >/g/one/z; echo zz >>/g/one/ann-f'
cd /w; mv su-ann su-anna; rm -r runuser; cp -a setpriv setpriv2; chown -Rh --from=5000 5005 setpriv-number/d
cd /c; mv root/l root/l2; mv five/by-mknodat-p five/p; chown 95 root/from-tmpfile
find / -xdev -user 1010 -exec chown -h 1011 {} +
usermod --uid 1012 --append --groups daemon ann
sed -i 's/^\([^:]*:[^:]*\):[0-9]*:/\1:20000:/' /etc/shadow /etc/shadow-
userdel far
view lower
