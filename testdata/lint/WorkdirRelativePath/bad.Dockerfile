FROM scratch AS one
WORKDIR app
WORKDIR more
FROM scratch AS two
ENV dir=app
WORKDIR $dir/x
FROM scratch
