FROM scratch
copy . /
