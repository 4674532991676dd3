# What no tool does: by number of the call (x86-64, else aarch64).
set -eu
. /steps/view.sh
mkdir -p /c && cd /c && chmod 1777 .
cat >calls.pl <<'P'
use strict; use POSIX;
my $arm = (POSIX::uname())[4] eq "aarch64";
my %n = $arm ? (openat => 56, linkat => 37, renameat2 => 276, setxattr => 5, openat2 => 437, fchownat => 54, mkdirat => 34, symlinkat => 36, mknodat => 33, memfd => 279, fchown => 55)
	: (openat => 257, linkat => 265, renameat2 => 316, setxattr => 188, openat2 => 437, fchownat => 260, mkdirat => 258, symlinkat => 266, mknodat => 259, memfd => 319, fchown => 93);
my ($at, $tmpfile, $directory) = (-100, 020000000, $arm ? 040000 : 0200000);
sub call { my ($name, @a) = @_; my $r = syscall($n{$name}, @a); print "$name ", $r < 0 ? $! + 0 : "ok", "\n"; $r }
my $w = $ARGV[0];
mkdir $w or die; chdir $w;
my $fd = call("openat", $at, ".", $tmpfile | $directory | 2, 0640);
# The second where the tier has no /proc.
-e "/proc/self/fd" ? call("linkat", $at, "/proc/self/fd/$fd", $at, "from-tmpfile", 0x400) : call("linkat", $fd, "", $at, "from-tmpfile", 0x1000);
my $gone = call("openat", $at, ".", $tmpfile | $directory | 2, 0640);
call("fchown", $gone, $> ? $> : 81, -1);
call("linkat", $gone, "", $at, "from-tmpfile-2", 0x1000) if !$>;
open(F, ">$_"), close F for "a", "b"; chown 82, 83, "a"; mkdir "c"; chown 84, 85, "c"; symlink "x", "l";
call("fchownat", $at, "l", 86, 87, 0x100);
call("renameat2", $at, "a", $at, "c", 2);
call("renameat2", $at, "b", $at, "l", 2);
call("renameat2", $at, "b", $at, "l", 1);
my $how = pack("QQQ", 0101, 0604, 8);
call("openat2", $at, "by-openat2", $how, 24);
call("openat2", $at, "../$w/by-openat2-out", $how, 24);
call("mkdirat", $at, "by-mkdirat", 02770);
call("symlinkat", "to", $at, "by-symlinkat");
call("mknodat", $at, "by-mknodat", 0100600, 0);
call("mknodat", $at, "by-mknodat-p", 010600, 0);
call("mknodat", $at, "by-mknodat-c", 020600, 0x105);
opendir(my $d, "by-mkdirat"); my $dfd = fileno $d;
call("mkdirat", $dfd, "inner", 0711);
call("fchownat", $dfd, "inner", -1, $) + 0, 0);
call("fchownat", $dfd, "", -1, -1, 0x1000);
my $cap = pack("VVVVV", 0x02000001, 0x2400, 0, 0, 0);
call("setxattr", "by-openat2", "security.capability", $cap, 20, 0);
call("setxattr", "by-mknodat", "user.mine", "value", 5, 0);
P
perl calls.pl root >log
setpriv --reuid 5000 --regid 5001 --groups 5001,5002 perl calls.pl five >>log
chown 91:92 root/by-openat2   # takes the capability away
cp root/by-mknodat kept
view calls
