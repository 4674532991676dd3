FROM a AS first
FROM a
COPY a b
COPY a b c* [d]e /dir/
COPY ["a b", "c\"d", "/x y/"]
COPY --from=first /a /b
COPY --from=0 /a /b
COPY --from=nginx:latest /etc/nginx /etc/
COPY --chown=$USER:$GROUP --chmod=u=rwX,go=rX --link=false a b
COPY --from="first" -- --a --b
COPY ['a', 'b']
COPY --from=later /a /b
FROM a AS later
