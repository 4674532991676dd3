FROM scratch
EXPOSE 80 8000-8010/udp
# check=skip=ExposeInvalidFormat
EXPOSE 80:80
