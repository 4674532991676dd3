# user: ben
# workdir: /srv/ben/work/deep
set -eu
. /steps/view.sh
{ id; pwd; echo "$HOME"; } >/srv/ben/log
cd /srv/ben
mkdir t; echo f >t/f; chgrp sysgroup t; chmod 2775 t; echo g >t/g; mkdir t/d; echo h >t/d/h; ln -s h t/d/l
{ each chgrp daemon t/f; each chgrp 1000 t/f; each chown ben t/g; each touch /srv/ben/work/x; } >>/srv/ben/log 2>&1
