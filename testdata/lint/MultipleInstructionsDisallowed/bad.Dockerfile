FROM scratch
ENTRYPOINT ["/a"]
CMD ["a"]
HEALTHCHECK NONE
entrypoint ["/b"]
CMD ["b"]
CMD ["c"]
HEALTHCHECK CMD ["/a"]
