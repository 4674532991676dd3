# plan: platform linux/arm64
# The registry gave another platform's image than was asked for.
FROM alpine:3.20
