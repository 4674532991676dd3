FROM a
RUN x
  \
