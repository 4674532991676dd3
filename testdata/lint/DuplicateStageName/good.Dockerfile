FROM scratch AS base
FROM scratch
FROM scratch
FROM base AS last
