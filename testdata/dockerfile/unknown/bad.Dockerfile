RUN before
ARG OK
CPOY a b
FROM a
CPOY a b
apt-get install x
FORM b
ONBUILD RUN x
INCLUDE other
