# plan: target last
FROM node:onbuild AS image
RUN true

FROM scratch AS own
ONBUILD ARG A=1
ONBUILD COPY --from=other /a /$A
COPY x /

FROM alpine:3.20 AS other

FROM own AS middle
ONBUILD ENV B=2

FROM middle AS last
COPY --from=image /app /app
RUN <<EOF cat <<F
a
EOF
f
F
RUN <<-EOF
	echo a
		echo b
EOF
RUN <<SCRIPT
#!/bin/python
print("a")
SCRIPT
