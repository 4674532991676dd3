FROM scratch AS base
# check=skip=StageNameCasing
FROM scratch AS Other
