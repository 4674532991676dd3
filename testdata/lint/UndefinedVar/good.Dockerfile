ARG head=1
FROM scratch AS base
ARG empty
ARG head
ENV set=$head$empty$PATH
COPY $set /x
COPY <<'E' /y
$quoted
E
RUN echo $runs '$x'
CMD ["$x"]
FROM base
COPY $set$empty /y
# check=skip=UndefinedVar
COPY $nothing /y
