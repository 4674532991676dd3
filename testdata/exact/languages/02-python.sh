# As root for everybody, and as a user for itself.
set -eu
export PYTHONDONTWRITEBYTECODE=1 PIP_CERT=/steps/certificates.crt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv /opt/python
/opt/python/bin/pip install --quiet --no-compile django==5.0.6
su app -c 'python3 -m venv ~/python && ~/python/bin/pip install --quiet --no-compile flask==3.0.3 requests==2.32.3'
# What `ensurepip` compiles holds the times of its sources.
find /opt/python ~app/python -name __pycache__ -prune -exec rm -r {} +
