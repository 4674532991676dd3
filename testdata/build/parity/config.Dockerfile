FROM localhost/base
ARG VERSION=1.2
ENV A=1 B="two words" C=$A-${MISSING:-none}
ENV LEGACY value with spaces
ENV PATH=/opt/bin:$PATH
LABEL version=$VERSION "quoted name"="quoted value" multi="a\
b"
EXPOSE 80 443/tcp 53/udp
VOLUME /data /more
VOLUME ["/json one", "/json/two"]
USER web:www
WORKDIR /srv
WORKDIR app
STOPSIGNAL SIGQUIT
ENTRYPOINT ["/bin/busybox", "sh"]
CMD -c "echo $A"
