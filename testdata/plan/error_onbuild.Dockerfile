FROM node:onbuild
RUN true
