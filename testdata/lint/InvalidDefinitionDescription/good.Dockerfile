# check=experimental=all
# foo is described
ARG foo=bar
# no description
#
ARG foo
# base is described
FROM scratch AS base
# two is described
ARG one two
# a stage without a name
FROM scratch
