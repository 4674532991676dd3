FROM scratch

COPY a \
  # a comment
  b \
  /x

COPY <<E /y

E
