FORM alpine
RUN a
COPY --from=0 a b
