# plan: target 0
FROM alpine:3.20 AS many
RUN 2
RUN 3
RUN 4
RUN 5
RUN 6
RUN 7
RUN 8
RUN 9
RUN 10 \
    and more
FROM many
RUN 1
