ARG FLAVOUR=plain
FROM localhost/base AS build
ARG FLAVOUR
RUN mkdir -p /out/sub/deep && echo "$FLAVOUR" >/out/flavour && ln /out/flavour /out/hard && \
    ln -s flavour /out/soft && chown web:www /out/sub /out/hard && chmod 750 /out/sub
FROM build AS more
RUN echo more >/out/sub/deep/more
FROM scratch AS empty
COPY --from=build /out/flavour /
FROM localhost/base
COPY --from=more /out /result
COPY --from=more /out/sub /exists
COPY --from=empty / /empty/
COPY --from=build --chown=1:2 /out/hard /out/soft /owned/
COPY --from=localhost/base /etc/passwd /from-image
