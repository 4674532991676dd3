ARG P=linux/amd64
FROM --platform=linux/amd64 scratch AS build-amd64
FROM --platform=linux/amd64 scratch AS linux
FROM --platform=$P scratch
# check=skip=FromPlatformFlagConstDisallowed
FROM --platform=linux/amd64 scratch
