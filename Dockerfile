# kiln's own image, built by kiln: cargo build --release && kiln build -t kiln .
FROM scratch
LABEL org.opencontainers.image.title="kiln" \
      org.opencontainers.image.description="A container image builder without a daemon: Dockerfile in, pinned image out, rootless" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY target/*/release/kiln /kiln
RUN ["/kiln", "--version"]
ENTRYPOINT ["/kiln"]
