FROM scratch
ENV name a value
LABEL name value
