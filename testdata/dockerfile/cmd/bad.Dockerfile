FROM a
CMD --flag a
CMD [1]
CMD ["a", ["b"]]
ENTRYPOINT [“a”]
