# A base with a user, without PATH, and with a history of too few layers.
FROM nginx
RUN whoami
WORKDIR /srv
USER root
RUN ["whoami"]
