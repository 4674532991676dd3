# plan: platform linux/arm64
FROM quay.io/a/b:1 AS one
FROM --platform=linux/amd64 quay.io/a/b:1 AS two
FROM unneeded AS three
FROM one
COPY --from=two / /
COPY --from=quay.io/a/c / /
COPY --from=quay.io/a/b:1 / /
