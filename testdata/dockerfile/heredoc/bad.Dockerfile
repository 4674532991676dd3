FROM a
COPY a <<X
b
X
RUN --mount=tarjet=/x --mount=type=bin,target=/x true
RUN --mount=from=$X,target=/x --network=nome true
RUN --security=x --device=a true
COPY --link=maybe a b
COPY --parents --parents a b
ADD --unpack= a b
RUN cat <<NEVER
RUN a
