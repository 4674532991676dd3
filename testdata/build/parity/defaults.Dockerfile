FROM localhost/base
ENTRYPOINT exec busybox httpd
SHELL ["/bin/busybox", "sh", "-ec"]
RUN touch /shell
CMD ["x"]
