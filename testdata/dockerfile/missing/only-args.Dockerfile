# nothing but
ARG A
