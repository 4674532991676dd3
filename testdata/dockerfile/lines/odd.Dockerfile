FROM a
  \
\
RUN a
	# c

RUN b \\
RUN c \
