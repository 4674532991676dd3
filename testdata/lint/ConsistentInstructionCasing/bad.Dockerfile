FROM scratch AS one
copy a /a
Copy b /b
onbuild COPY c /c
# Lines of arguments before the first stage are not counted.
COPY d /d
