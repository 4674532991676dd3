# A stage on a stage inherits its arguments, and its ENV comes first again.
FROM alpine:3.20 AS base
ARG X=1
ENV X=env
ARG X=2
ARG Y=3
RUN in base
FROM base
RUN in top
