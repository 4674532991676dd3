FROM scratch
COPY $one ${two:-x} $one$one /x
ENV a=$three b=${four+y}
LABEL x$five=x
ARG later=$six
ENV PATH=$PAHT:/bin
COPY <<E /y
$seven
E
RUN --mount=type=cache,target=/cache/$eight --mount=type=secret,id=x$nine true
USER $ten
WORKDIR /$eleven
ENV twelve=$twelve
ARG thirteen
