# plan: label given=1 from=request
# Everything that makes no step.
FROM golang:1.22
MAINTAINER Jo <jo@example.com>
LABEL from=file "a b"='c d' old.key=$GOPATH
ENV OLD form  with "quotes"
ENV GOPATH=/other
VOLUME ["/data", "/go$HOME"]
VOLUME /logs ${GOPATH}/v
EXPOSE 80 53/udp 8000-8002 $GOPORT
STOPSIGNAL SIGRTMIN+3
HEALTHCHECK --interval=30s --timeout=1m30s --retries=3 CMD curl -f http://localhost/ || exit 1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
CMD echo "hi"
USER $NOBODY
