ARG VERSION
ARG IMAGE
FROM scratch
FROM $IMAGE
FROM scratch$VERSION
# plan: arg IMAGE=scratch
