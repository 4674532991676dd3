FROM busybox AS build
RUNN make
COPY --fron=build a b
RUN --mount=type=tmp,target=/x true
RUN --mount=typ=tmpfs,target=/x true
RUN --mount=type=cache,target=/x,sharing=lock true
RUN --netwrk=none true
RUN --device=example.com/gpu=all true
ONBUILD ENV A
ONBUILD CMD ["a", 1]
HEALTHCHECK --intervall=5s CMD x
ENTRY ["x"]
FROM scratch AS one
COPY --from=two / /
FROM scratch AS two
RUN --mount=from=one,target=/x true
