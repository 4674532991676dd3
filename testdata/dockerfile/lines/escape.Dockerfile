# escape=`
FROM a
RUN a `
  b

RUN c:\x `  
# no
 d``
