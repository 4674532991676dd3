FROM a
RUN <<EOF
FROM not-a-stage
EOF
COPY <<-"A B" <<two /x/
	text
	A B
two
two
ADD <<x /y
y
x
RUN true
RUN cat <<NEVER
RUN a
