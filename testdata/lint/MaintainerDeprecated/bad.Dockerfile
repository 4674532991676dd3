FROM scratch
MAINTAINER somebody
