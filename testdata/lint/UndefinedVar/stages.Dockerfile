FROM scratch AS one
COPY $foo /x
FROM scratch AS two
COPY $bar /x
