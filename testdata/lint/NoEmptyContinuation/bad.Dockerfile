FROM scratch
COPY a \

  b \
  # a comment is none

  /x
LABEL a=b \

  c=d
COPY <<E \

  /y
text

E
