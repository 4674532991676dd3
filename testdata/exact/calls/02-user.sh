# user: dan
# workdir: /work
set -eu
for table in /steps/calls/user*.txt; do
	name=${table##*/}
	calls "$table" "/work/$name" >"/out/$name"
done
rm -r /work/*
