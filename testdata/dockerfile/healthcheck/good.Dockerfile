FROM a
HEALTHCHECK NONE
HEALTHCHECK CMD curl -f http://localhost/ || exit 1
HEALTHCHECK --interval=1h30m --retries=0 --timeout=0 cmd ["a"]
