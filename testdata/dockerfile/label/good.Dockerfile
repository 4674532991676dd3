FROM a
LABEL a=b "com.example.x y"="two
LABEL version 1.0
LABEL multi="a \
  b" x=y
