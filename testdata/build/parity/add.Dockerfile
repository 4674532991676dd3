FROM localhost/base
ADD a /one
ADD d /two
ADD plain.tar /three/
ADD gzip.tgz /four
COPY gzip.tgz /five/
ADD plain.tar gzip.tgz /exists/
