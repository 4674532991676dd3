FROM alpine:3.20
ENV PATH=$PATH:/more
COPY $nothing /x
