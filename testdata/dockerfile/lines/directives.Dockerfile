# escape=x
#SYNTAX = a/b:1 
# syntax=c
# other=1
# escape=`
FROM a \
