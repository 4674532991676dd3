# plan: platform windows/amd64
FROM scratch
CMD dir
SHELL ["powershell"]
ENTRYPOINT dir
