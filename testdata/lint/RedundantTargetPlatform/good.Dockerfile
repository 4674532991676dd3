FROM --platform=$BUILDPLATFORM scratch
FROM --platform=$TARGETOS/$TARGETARCH scratch
# check=skip=RedundantTargetPlatform
FROM --platform=$TARGETPLATFORM scratch
FROM scratch
