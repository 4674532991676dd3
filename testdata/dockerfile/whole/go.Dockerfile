# syntax=docker/dockerfile:1
# check=skip=all

ARG GO=1.24 BASE=gcr.io/distroless/static
ARG EMPTY
FROM --platform=$BUILDPLATFORM golang:${GO}-alpine AS Build
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -mod=readonly"
COPY go.mod go.sum ./
RUN go mod download && \
    # a comment within
    go version
COPY . .
ARG TARGETOS
ARG TARGETARCH
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /out/app ./cmd/app

from ${BASE}
label org.opencontainers.image.title="an app" version=1
COPY --from=build --chown=65532:65532 --chmod=0755 /out/app /app
USER 65532:65532
EXPOSE 8080/tcp 9090-9092/udp
VOLUME ["/data", "/cache"]
VOLUME /a /b
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=1.5s --start-period=1m --start-interval=500ms --retries=3 CMD ["/app", "-check"]
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
MAINTAINER  A Person <a@example.com>
ENTRYPOINT ["/app"]
CMD ["serve", "--port", "8080"]
