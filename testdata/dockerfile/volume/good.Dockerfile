FROM a
VOLUME /a
VOLUME /a /b
VOLUME ["/a b", " /c "]
