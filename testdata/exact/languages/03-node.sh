set -eu
export NODE_EXTRA_CA_CERTS=/steps/certificates.crt npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false
mkdir -p /opt/node && cd /opt/node
npm init --yes >/dev/null
npm install --silent --no-progress webpack@5.91.0 typescript@5.4.5 @babel/core@7.24.5 eslint@8.57.0 jest@29.7.0
npm install --silent --no-progress --global yarn@1.22.22
su app -c 'mkdir ~/node && cd ~/node && npm init --yes >/dev/null && npm install --silent --no-progress express@4.19.2 && node -e "require(\"express\"); console.log(process.getuid())" >uid'
# Logs are named by the time, and the cache has times in its index.
rm -rf ~/.npm ~app/.npm
chown -R app:app /opt/node
