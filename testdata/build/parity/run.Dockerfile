FROM localhost/base
RUN mkdir -p /a/b /a/c /a/d && touch /a/1 /a/b/2 /a/c/3 && echo text >/a/file && chmod 4711 /a/file
RUN ln /a/file /a/hard && ln -s file /a/soft && mkfifo /a/pipe && chown -R web:www /a/d
RUN rm /a/1 && rm -r /a/c && mkdir /a/c && touch /a/c/new && mv /a/b /a/moved && chmod 1777 /a/d
USER web
RUN id >/tmp/id && umask >/tmp/umask && touch /tmp/mine
USER 1000:60
WORKDIR /srv/deep
RUN id -u >/tmp/uid && id -g >/tmp/gid && pwd >/tmp/pwd && echo "$HOME" >/tmp/home
