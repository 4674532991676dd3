# wrong
ARG foo=bar
FROM scratch
