FROM scratch AS base
ONBUILD CMD run
FROM base
