set -eu
mkdir /out /work
chmod 755 /work
cp /steps/calls.bin /usr/bin/calls
for table in /steps/calls/*.txt; do
	name=${table##*/}
	calls "$table" "/work/$name" >"/out/$name"
done
rm -r /work
