FROM a
ENV A=1
ENV A=1 B="two words" C=three\ words D='$A' E=
ENV OLD the  rest "of the" line
ENV $KEY=value "q k"=v
ENV PATH=$PATH:/bin \
    MORE=1 \

    LAST=한국어
