FROM --platform=linux/arm64 alpine:3.20 AS arm64
FROM scratch
COPY --from=arm64 /a /a
FROM --platform=linux/arm64 alpine:3.20 AS arm64-again
