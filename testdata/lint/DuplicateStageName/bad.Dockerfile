FROM scratch AS base
FROM scratch AS other
FROM scratch AS base
FROM base AS last
