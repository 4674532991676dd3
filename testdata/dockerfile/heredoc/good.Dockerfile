FROM a
RUN <<EOF
FROM not-a-stage
EOF
COPY <<-"AB" <<two file /x/
	text $x
	AB
2
two
ADD --unpack --exclude=*.o --exclude=a <<x a /y
y
x
RUN --mount=type=bind,from=b,target=$X --mount=target=/c --network=none <<-"E" cat <<F
	a
	E
f
F
RUN ["cat", "<<E"]
COPY ["<<E", "/x"]
COPY --link --parents=true --exclude=a b /c
