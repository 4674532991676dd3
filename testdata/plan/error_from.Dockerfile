# plan: target ok
# FROM must make sense in stages that nobody needs, too.
ARG EMPTY
FROM scratch AS ok
FROM $EMPTY
FROM ${TYPO}
FROM Alpine
FROM --platform=amd65 scratch
FROM --platform=$NONE scratch
FROM ${EMPTY:?empty}
