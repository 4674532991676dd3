FROM alpine:3.20
ARG URL=https://example.com/x REPO=https://example.com/x.git
STOPSIGNAL SIGNONE
EXPOSE 80/icmp
EXPOSE 70000
COPY --chmod=u+x a /
COPY --chmod=99 a /
COPY --chmod=77777 a /
ADD $URL /
COPY $REPO /
ENV $NONE=1
VOLUME ["$NONE"]
USER ${X:?is needed}
RUN still read
