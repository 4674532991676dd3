FROM scratch
COPY secret.txt ./logs/a.log ok /x
ADD secret.txt https://example.invalid/secret.txt /x
