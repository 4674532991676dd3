FROM alpine:3.20
COPY --from=later /a /a
FROM scratch AS later
FROM alpine:3.20
COPY --from=0 / /
