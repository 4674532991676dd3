FROM --platform=$TARGETPLATFORM scratch
FROM --platform=${TARGETPLATFORM:-linux/386} scratch
