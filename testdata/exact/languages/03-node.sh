# npm from its own registry: Debian's is four hundred packages.
set -eu
export NODE_EXTRA_CA_CERTS=/steps/certificates.crt npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false
SSL_CERT_FILE=/steps/certificates.crt python3 -c 'import urllib.request as u; u.urlretrieve("https://registry.npmjs.org/npm/-/npm-9.9.3.tgz", "/tmp/npm.tgz")'
mkdir /opt/npm && tar -xzf /tmp/npm.tgz -C /opt/npm --strip-components=1 && rm /tmp/npm.tgz
ln -s /opt/npm/bin/npm-cli.js /usr/local/bin/npm
mkdir -p /opt/node && cd /opt/node
npm init --yes >/dev/null
npm install --silent --no-progress lodash@4.17.21 webpack@5.91.0
npm install --silent --no-progress --global yarn@1.22.22
su app -c 'mkdir ~/node && cd ~/node && npm init --yes >/dev/null && npm install --silent --no-progress express@4.19.2 && node -e "require(\"express\"); console.log(process.getuid())" >uid'
# Logs are named by the time, and the cache has times in its index.
rm -rf ~/.npm ~app/.npm
chown -R app:app /opt/node
