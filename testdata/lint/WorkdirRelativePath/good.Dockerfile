FROM scratch AS one
WORKDIR /app
WORKDIR more
FROM one
WORKDIR still
