set -eu
mkdir /out /work
chmod 755 /work
chmod 1777 /out
cp /steps/calls.bin /usr/bin/calls
for table in /steps/calls/*.txt; do
	name=${table##*/}
	case $name in user*) continue ;; esac
	calls "$table" "/work/$name" >"/out/$name"
done
rm -r /work

# For the tables of a user to whom things are denied.
groupadd -g 1001 dan
groupadd -g 1002 crew
useradd -M -u 1000 -g dan -G crew dan
mkdir -m 755 /work
mkdir -p /w/closed /w/search /w/list /w/crewdir /w/owndir/sub /w/own0 /w/tmp /w/owntmp
chown dan: /work
cd /w
for file in f secret crew-r crew-w mine none others anyone wonly marked fifo-open tmp/root tmp/dan tmp/other \
	owntmp/root owndir/root closed/f search/f list/f crewdir/f own0/f; do
	printf text >$file
done
chmod 666 anyone closed/f
chmod 600 secret mine
chmod 640 crew-r
chmod 660 crew-w
chmod 000 none
chmod 077 others
chmod 622 wonly
chmod 4666 marked
chown 0:1002 crew-r crew-w
chown dan: mine none others tmp/dan owntmp owndir own0 own0/f
chown 1003:1003 tmp/other
chmod 666 tmp/*
chmod 700 closed
chmod 711 search
chmod 744 list
chown 0:1002 crewdir
chmod 770 crewdir
chmod 000 own0
chmod 1777 tmp
chmod 1755 owntmp
mkfifo -m 600 fifo
mkfifo -m 666 fifo-any
mkdir tmp/dir owndir/full owndir/dans
touch owndir/full/x
chown dan: owndir/dans
ln -s secret to-secret
ln -s closed/f to-closed
ln -s closed to-closed-folder
ln -s search/f to-search
ln -s closed/new to-new-closed
ln -s new to-new
ln -s tmp/new to-new-tmp
for program in prog prog-no prog-root prog-x prog-crew; do cp /usr/bin/calls $program; done
chmod 644 prog-no
chmod 700 prog-root
chmod 711 prog-x
chmod 710 prog-crew
chown 0:1002 prog-crew
cp /usr/bin/calls set-uid
chmod 4755 set-uid
echo '#!/w/prog --script' >script
echo '#!/w/prog-no --script' >script-no
echo '#!/w/closed/prog --script' >script-closed
cp prog closed/prog
chmod 755 script script-no script-closed
