# plan: target last
# ENTRYPOINT undoes a CMD that this stage did not set.
FROM nginx AS keeps
CMD ["a \"b\"", "c"]
ENTRYPOINT run it
HEALTHCHECK CMD ["check", "it"]
FROM keeps AS last
ENTRYPOINT ["/only"]
HEALTHCHECK NONE
