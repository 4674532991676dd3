FROM a
RUN echo "a b" 'c' $D \x
RUN ["echo", "a b", "\u00e9\n"]
RUN --network=default --security=sandbox true
RUN echo a \
  && echo b \
# a comment
    # another
  && echo c
RUN [ -f a ] || true
RUN [ "$A" = b ]
RUN echo $((1<<2))
RUN true \  
  && true
