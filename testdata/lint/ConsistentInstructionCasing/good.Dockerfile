arg x=1
from scratch
copy a /a
onbuild COPY c /c
