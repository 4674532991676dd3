FROM a
RUN
RUN []
RUN ["a", 2]
RUN ['a', 'b']
RUN --mount=type=cache,target=/root/.cache go build
RUN --network=none --security=insecure --device=a true
RUN --mont=type=cache true
RUN a \

  b
