FROM scratch
COPY a /a
ENV ONE=1
CMD ["/a"]
