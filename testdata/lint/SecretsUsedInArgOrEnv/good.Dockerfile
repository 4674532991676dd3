FROM scratch
ARG PUBLIC_KEY TOKEN_FILE AUTH_VERSION keys monkey
ENV passphrase=x
# check=skip=SecretsUsedInArgOrEnv
ENV password=x
# check=skip=all // this one alone
ARG password
