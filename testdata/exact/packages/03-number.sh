# user: 1000:1000
set -eu
. /steps/view.sh
cd /p
mkdir mine; cd mine; echo f >f; ln f h; ln -s f l; mkfifo p; mkdir -m 2775 d; cp -a d e; git init --quiet g; rsync -aH ./ ../mine-too
{ each id; each sudo -n id; each chown 0 f; each chgrp ssl-cert f; each touch /p/tree/new; each crontab -l; } >log 2>&1
