# plan: target nope
FROM alpine:3.20 AS build
FROM scratch
