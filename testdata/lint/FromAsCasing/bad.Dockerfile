FROM scratch as one
FROM scratch As two
# Told by another rule.
From scratch as three
