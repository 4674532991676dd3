# The ordinary case: a program is built, and copied into an empty image.
FROM golang:1.22 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -o /out/main .

FROM golang:1.22 AS unneeded
RUN exit 1

FROM scratch
COPY --from=build /out/main /main
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/main"]
