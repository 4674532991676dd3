FROM scratch AS one
ENTRYPOINT ["/a"]
CMD ["a"]
HEALTHCHECK NONE
FROM one
ENTRYPOINT ["/a"]
CMD ["a"]
HEALTHCHECK NONE
FROM scratch
CMD ["a"]
# check=skip=MultipleInstructionsDisallowed
CMD ["b"]
