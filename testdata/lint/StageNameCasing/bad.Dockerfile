FROM scratch AS Base
FROM scratch AS tWo
FROM scratch AS three-3
