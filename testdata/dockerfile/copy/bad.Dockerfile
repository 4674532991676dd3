FROM a AS one
COPY
COPY a
COPY ["a"]
COPY ["a", 1, "b"]
COPY --from=$STAGE a b
COPY --from=2 a b
COPY --from=-1 a b
COPY --from=0 a b
COPY --from=ONE a b
COPY --form=one a b
COPY --from a b
COPY --link a b
COPY --link=true --parents a b
COPY --exclude=*.o a b
COPY --chown=a --chown=b a b
COPY --verbose-output a b
COPY https://example.com/a git@example.com:a/b x/
FROM a
COPY ---from=x a b
