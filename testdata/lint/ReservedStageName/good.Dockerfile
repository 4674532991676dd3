FROM scratch AS from-scratch
FROM scratch
