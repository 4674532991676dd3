FROM scratch AS a
ONBUILD WROKDIR /x
ONBUILD COPY --from=7 a b

FROM a
RUN true
