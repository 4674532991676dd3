FROM --platform=linux/amd64 scratch
FROM --platform=linux/amd64 scratch AS build
