ARG SOURCE_DATE_EPOCH=yesterday
FROM alpine:3.20 AS build
