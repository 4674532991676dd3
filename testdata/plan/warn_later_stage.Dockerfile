# An image may have the name of a later stage.
FROM nginx AS first
FROM scratch AS nginx
FROM first
