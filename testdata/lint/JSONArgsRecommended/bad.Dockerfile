FROM scratch
ENTRYPOINT /app run
CMD ['not', 'json']
