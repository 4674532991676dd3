# The flags and paths of COPY and ADD, and whence they copy.
FROM alpine:3.20 AS one
FROM alpine:3.20
ARG UID=1000 MODE=755 DIR=src
COPY --chown=$UID:grp --chmod=${MODE} $DIR/*.txt ../../etc/x ./y/ /dst/
COPY ["with space", "/to here"]
WORKDIR /app
WORKDIR sub/../bin/
COPY a .
COPY a b
COPY a ..
ADD data.tar.gz /data/.
COPY --from=ONE / /one
COPY --from=0 /x /zero
COPY --from=nginx:latest /etc/nginx /etc/nginx
COPY --from=alpine:3.20 /etc/apk /etc/apk
USER app
WORKDIR /home/app
WORKDIR /
WORKDIR rel
