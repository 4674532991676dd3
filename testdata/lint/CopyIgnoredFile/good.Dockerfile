FROM scratch AS one
COPY ok /x
COPY . /y
FROM scratch
COPY --from=one /secret.txt /y
# check=skip=CopyIgnoredFile
COPY secret.txt /x
