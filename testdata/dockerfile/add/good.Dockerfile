FROM a
ADD a.tar.gz /
ADD --chown=1:1 --chmod=755 --keep-git-dir=false a b /c/
ADD ["a b.tar", "/"]
ADD github.com/a/b /c
