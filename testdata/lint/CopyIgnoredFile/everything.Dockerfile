FROM scratch
COPY . /x
COPY ./ /y
COPY / /z
COPY a /z
