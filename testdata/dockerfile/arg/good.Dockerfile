ARG A B=1 C="x y" D='$A' E=a\ b F= G="${A:-x y}"
FROM a
ARG A
ARG "odd name"=1
