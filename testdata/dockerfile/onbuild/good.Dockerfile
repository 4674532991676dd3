FROM a
ONBUILD RUN <<Z
z
Z
onbuild   copy --from=x  a \
  b
ONBUILD CMD ["a"]
ONBUILD WROKDIR /x
ONBUILD COPY a b 	
