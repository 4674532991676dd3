# plan: context tools=files alpine:3.20=scratch nginx=golang:1.22 stage=alpine:3.20
FROM nginx AS a
COPY --from=tools /bin/x /x
RUN --mount=from=tools,target=/t,source=s /t/x

FROM nothing-of-this-is-done AS stage
RUN true

FROM alpine:3.20 AS empty
COPY --from=stage /etc /etc

FROM tools
COPY --from=a /x /x
COPY --from=empty /etc /etc
