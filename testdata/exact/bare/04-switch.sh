# Other users: what they see themselves as, and what they make.
set -eu
. /steps/view.sh
mkdir -p /w && chmod 1777 /w && cd /w
make='id -u; id -g; id -G; umask; d=$1; mkdir $d; cd $d; echo f >f; mkdir d; ln -s f l; mkfifo p; ln f h; cp -p f c; chmod 4711 c; install -m 640 f i; sh -c "(sh -c \"echo deep >deep\")"; test -O f && test -G f && echo own; touch f; mv f g'
echo "$make" >/w/make; chmod 644 /w/make
{
	each su ann -s /bin/sh -c 'sh /w/make su-ann'
	each su - ann -s /bin/sh -c 'cd /w; sh /w/make su-login'
	each su -s /bin/sh daemon -c 'sh /w/make su-daemon'
	each su -g builders -G sysgroup -s /bin/sh ann -c 'sh /w/make su-groups'
	each runuser -u ben -- sh /w/make runuser
	each runuser -s /bin/sh -l svc -c 'cd /w; sh /w/make runuser-login'
	each setpriv --reuid ann --regid builders --init-groups sh /w/make setpriv
	each setpriv --reuid 5000 --regid 5001 --clear-groups sh /w/make setpriv-number
	each setpriv --regid 5001 --reuid 5000 --groups 5002,5003 --inh-caps=-all sh /w/make setpriv-groups
	each setpriv --euid 1000 --egid 2000 --keep-groups sh -c 'id -u; id -ru; id -g; id -rg; : >euid'
	each setpriv --ruid 1000 --rgid 2000 --keep-groups sh -c 'id -u; id -ru; id -g; id -rg; : >ruid'
	# By a file of its own it looks for no other process.
	each start-stop-daemon --start --quiet --pidfile /w/none --chuid svc --chdir /w --exec /bin/sh -- /w/make start-stop
	each start-stop-daemon --start --quiet --pidfile /w/none --chuid ben:more --umask 077 --chdir /w --startas /bin/sh -- /w/make start-stop-group
	each start-stop-daemon --start --quiet --background --make-pidfile --pidfile /w/pid --chuid svc --startas /bin/sh -- -c 'echo b >/w/background; sleep 0.2'
	i=0; while ! [ -s /w/background ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
	rm -f /w/pid
	each perl -MPOSIX -e '$) = "2000 2000 210"; POSIX::setgid(2000); POSIX::setuid(1000); system("sh", "/w/make", "perl"); print POSIX::setuid(0) ? "back\n" : "no way back: $!\n"'
	each perl -e '$> = 1000; open(F, ">/w/euid-perl"); close F; $> = 0; open(F, ">/w/euid-back"); close F; print "$< $>\n"'
	each perl -e '$< = 1000; print "$< $>\n"; mkdir "/w/swapped"; ($<, $>) = ($>, $<); print "$< $>\n"; mkdir "/w/swapped-2"'
	each perl -MPOSIX -e 'POSIX::setuid(1000); if (!fork) { if (!fork) { select undef, undef, undef, 0.2; mkdir "/w/orphan"; exit } exit } wait; sleep 1'
	each perl -e '
		require "syscall.ph" if 0;
		$) = "2000 2000"; $> = 1000;
		for my $n (1 .. 3) { if (!(my $p = fork)) { $> = 0; $) = "0 0"; $) = "$n $n"; $> = 1000 + $n; mkdir "/w/fork-$n"; exec "sh", "-c", "id -u; : >/w/fork-$n/f" } else { waitpid $p, 0 } }'
	# Denied, as the IDs say.
	each su ann -s /bin/sh -c 'chown root /w/su-ann/g'
	each su ann -s /bin/sh -c 'chgrp builders /w/su-ann/g'
	each su ann -s /bin/sh -c 'chgrp daemon /w/su-ann/g'
	each su ann -s /bin/sh -c 'chown ann /w/runuser/g'
	each su ann -s /bin/sh -c 'mknod /w/su-ann/null c 1 3'
	each su ann -s /bin/sh -c 'su root -c true </dev/null'
	each su ann -s /bin/sh -c 'chmod 600 /w/make'
	each setpriv --reuid ann --regid ann --clear-groups setpriv --reuid root true
	# Programs with the bits.
	cp /usr/bin/id /w/id-u; chown ben /w/id-u; chmod 4755 /w/id-u
	cp /usr/bin/id /w/id-g; chgrp sysgroup /w/id-g; chmod 2755 /w/id-g
	cp /usr/bin/id /w/id-ug; chown 7000:7001 /w/id-ug; chmod 6755 /w/id-ug
	cp /usr/bin/id /w/id-gx; chgrp sysgroup /w/id-gx; chmod 2745 /w/id-gx
	for program in id-u id-g id-ug id-gx; do
		each /w/$program
		each su ann -s /bin/sh -c "/w/$program"
		each setpriv --reuid 5000 --regid 5001 --clear-groups --no-new-privs /w/$program
	done
	printf '#!/usr/bin/id\n' >/w/id-script; chown ben /w/id-script; chmod 4755 /w/id-script
	each su ann -s /bin/sh -c '/w/id-script -u'
	each su ann -s /bin/sh -c 'cp /w/id-u /w/su-ann/id; chmod 4755 /w/su-ann/id; stat -c "%a %U" /w/su-ann/id'
	each su ann -s /bin/sh -c 'passwd --status'
	each su ann -s /bin/sh -c 'newgrp builders </dev/null; echo $?'
	each su ann -s /bin/sh -c 'chage -l ann | head -n 0; expiry -c; echo $?'
	each su daemon -s /bin/sh -c 'id'
	each find /w -user ann -name '[a-m]*' -newer /nowhere
	each sh -c 'find /w -user ann | LC_ALL=C sort'
	each sh -c 'find /w -group builders | LC_ALL=C sort'
	each sh -c 'find /w -nouser -o -nogroup | LC_ALL=C sort'
} >/w/log 2>&1
sed -i 's/^\(.*: \)line [0-9]*:/\1/' /w/log
view switch
