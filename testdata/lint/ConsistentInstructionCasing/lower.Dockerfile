From scratch
copy a /a
COPY b /b
copy b /b
