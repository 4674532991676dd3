FROM a
RUN <<EOF
FROM not-a-stage
EOF
COPY <<-"A B" <<two /x/
	text
	A B
two
ADD <<x /y
y
x
ONBUILD RUN <<Z
z
Z
RUN true
RUN cat <<NEVER
RUN a
