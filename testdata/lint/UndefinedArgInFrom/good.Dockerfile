ARG known=scratch
ARG empty
FROM --platform=$BUILDPLATFORM $known$empty
# check=skip=UndefinedArgInFrom
FROM scratch${one}
