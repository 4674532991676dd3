ARG known=scratch
FROM scratch${one}
FROM --platform=${two:-linux/amd64} $known$three$three
FROM scratch
