FROM a
ADD https://example.com/a.tar.gz /
ADD a https://example.com/b.git#main git@example.com:c/d.git /
ADD --checksum=sha256:0000 a /
ADD --unpack a /
ADD --keep-git-dir a /
ADD --form=x a /
ADD a
