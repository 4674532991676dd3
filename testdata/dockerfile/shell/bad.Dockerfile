FROM a
SHELL
SHELL []
SHELL /bin/bash -c
SHELL ["/bin/bash", null]
