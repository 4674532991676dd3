# check=skip=FromAsCasing
from scratch
COPY b /b
# check=skip=all
copy c /c
COPY c /c
