ARG
ARG =x A
ARG --flag A=1
FROM a
