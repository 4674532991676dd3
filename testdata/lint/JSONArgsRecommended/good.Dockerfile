FROM scratch AS one
ENTRYPOINT ["/app"]
CMD ["run"]
FROM scratch AS two
SHELL ["/bin/sh", "-c"]
CMD run
FROM two
ENTRYPOINT run
# check=skip=JSONArgsRecommended // a shell is wanted here
FROM scratch
# check=skip=JSONArgsRecommended // a shell is wanted here
CMD run
