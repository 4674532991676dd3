# Owners and modes, in all ways that the tools know.
set -eu
. /steps/view.sh
mkdir -p /o/tree/a/b /o/links
cd /o
echo 1 >tree/a/f1; echo 2 >tree/a/b/f2; ln -s f1 tree/a/l1; ln -s /nowhere tree/a/dangling; mkfifo tree/p
chown -R ann:builders tree
cp -a tree copy-a
cp -R --preserve=mode,ownership tree copy-p
cp -r tree copy-r
chown -R --from=ann:builders ben: tree/a/b
chown -R --from=nobody 5:5 tree
chown -h daemon:sys tree/a/l1
chown svc tree/a/l1
chgrp -R 70000 copy-p
chgrp -h 4294967294 tree/a/dangling
chown 4294967294:4294967294 copy-r/p
chown :daemon copy-r/a
chown 33 copy-r/a/f1
chown +12 copy-r/a/b
chown --reference=tree/a/f1 copy-r/a/b/f2
chown -RL 8:9 copy-r/a || true # a link to nowhere
chown -RHh 10:11 copy-a/a/b
# Special bits: an owner's change takes them from files, not from folders.
for m in 4755 2755 6755 4644 2644 2745 6711; do
	: >m$m; chmod $m m$m; : >n$m; chown 1:2 n$m; chmod $m n$m; : >k$m; chmod $m k$m; chown 1:2 k$m
	: >j$m; chmod $m j$m; chown 0:0 j$m
	mkdir d$m; chmod $m d$m; chown 3:4 d$m
done
chmod u+s,g+s m4644; chmod 1777 d4755; chmod 000 m2644; chmod a= d2644
install -o ann -g builders -m 4750 /bin/true installed
install -o 70001 -g 70002 -m 2711 /bin/true installed-far
install -d -o svc -g sysgroup -m 3770 folder-a/folder-b/folder-c
install -D -m 600 -o ben /etc/hostname folder-d/e/hostname 2>/dev/null || install -D -m 600 -o ben /etc/passwd folder-d/e/hostname
# Across file systems and back.
mkdir away; echo x >away/x; ln away/x away/y; ln -s x away/l; mkfifo away/p; mkdir -m 2750 away/d; echo d >away/d/d
chown -Rh 41:42 away; chown 43:44 away/d/d; chmod 2750 away/d; chmod 6755 away/x
mv away /dev/shm/away
find /dev/shm/away -printf '%P %y %m %U:%G %l\n' | LC_ALL=C sort >was-away
mv /dev/shm/away away2
cp -a away2 /dev/shm/away3 && cp -a /dev/shm/away3 away3 && rm -r /dev/shm/away3
# Archives.
tar -cf t.tar -C /o tree away2 folder-a
mkdir out-p out-n out-o
tar -xpf t.tar -C out-p
tar -xf t.tar -C out-n --no-same-owner
tar -xf t.tar -C out-o --no-same-permissions --numeric-owner
tar -tvf t.tar --numeric-owner | sed 's/ [0-9]\{4\}-[0-9-]* [0-9:]* / /' >t.list
rm t.tar
# Hard links share an owner; names come and go.
echo h >h1; ln h1 h2; ln h2 links/h3; chown 51:52 h2; chmod 640 links/h3; rm h1; mv h2 h4; ln links/h3 h1
ln -s h1 s1; chown -h 53:54 s1; ln -P s1 s2; ln -L s1 h5; mv s1 s3
mkfifo q1; chown 55:56 q1; ln q1 q2; chmod 606 q2; mv q1 q3
ln -s h1 l-alone; chown -h 57:58 l-alone
# A name that is used again has nothing of the old one's.
for kind in 'touch' 'mkfifo' 'ln -s to'; do
	set -- $kind
	for i in 1 2 3 4; do "$@" again; chown -h 61:62 again; rm again; done
	"$@" "again-$1"
done
# Over one another.
echo a >over-a; chown 71:72 over-a; echo b >over-b; chown 73:74 over-b; mv over-a over-b
echo c >over-c; chown 75:76 over-c; echo d >over-d; cp over-d over-c; cat over-d >>over-c
echo e >over-e; chown 77:78 over-e; sed -i s/e/f/ over-e
echo g >over-g; chown 79:80 over-g; cp --remove-destination over-d over-g
cp --preserve=ownership over-e over-h; cp -p over-e over-i
truncate --size 0 over-i; dd if=/dev/null of=over-h 2>/dev/null
view owners
