FROM scratch
ENV name="a value" more=x
LABEL name=value
# check=skip=LegacyKeyValueFormat
ENV name a value
