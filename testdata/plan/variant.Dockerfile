# plan: platform linux/arm/v7
# An image that leaves its variant out.
FROM arm:1
RUN uname -m
