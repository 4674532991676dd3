FROM localhost/base
COPY a /one
COPY a d/b /two/
COPY d /three
COPY d/ /four/
COPY d /exists
COPY d/* /five/
COPY --chown=web:www d /six/seven
COPY --chown=33 a /eight
COPY --chmod=640 a /nine
COPY a /link/
COPY a /link/renamed
COPY [ "with space", "/with space/x" ]
WORKDIR /w
COPY a ./
COPY a sub/
COPY . /all/
