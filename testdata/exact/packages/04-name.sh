# user: postgres
# workdir: /p/pg/work/deep
set -eu
. /steps/view.sh
{ id; pwd; echo "$HOME"; } >log
/usr/lib/postgresql/15/bin/initdb -D data --no-sync >/dev/null
chgrp ssl-cert data/PG_VERSION; mkdir -m 2770 d; chgrp ssl-cert d; chmod g+s d; echo f >d/f; mkdir d/d
