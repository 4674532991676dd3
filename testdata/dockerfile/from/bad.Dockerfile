FROM
FROM a AS
FROM a AS 1st
FROM a IN b
FROM a AS b c
FROM --platfrom=linux a
FROM --platform a
FROM --platform=a --platform=b a
FROM a AS same
FROM a AS SAME
