# check=experimental=InvalidDefinitionDescription
# bar is something else
ARG foo=bar

# told, though an empty line follows

FROM scratch AS base
# wrong
ARG one two
# one is right, and not last
# wrong
ARG one
  # one is indented
ARG one
# wrong
COPY a /a
