ARG TOKEN=before
FROM scratch
ARG DB_PASSWORD api_key=x harmless=y
ENV Secret=x tokens=y SECRET_KEY=z
