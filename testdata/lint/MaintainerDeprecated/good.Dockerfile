FROM scratch
LABEL org.opencontainers.image.authors="somebody"
# check=skip=MaintainerDeprecated
MAINTAINER somebody
