from scratch as one
from scratch as two
