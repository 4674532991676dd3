FROM scratch
EXPOSE 80/tcp 8080/udp 53/sctp 80
# check=skip=ExposeProtoCasing
EXPOSE 80/TCP
