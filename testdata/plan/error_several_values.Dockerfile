FROM scratch
EXPOSE http
STOPSIGNAL FOO
ENV A="${B:?give B}"
COPY --chmod=999 a /a
RUN --mount=type=tmpfs,target=/ ["x"]
EXPOSE x:80
