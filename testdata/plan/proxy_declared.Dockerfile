# plan: arg HTTP_PROXY=http://p NO_PROXY=x Unused=1 also=2
FROM alpine:3.20
ARG HTTP_PROXY
RUN env
