FROM --platform=linux/amd64 alpine:3.20 AS amd64
FROM scratch
