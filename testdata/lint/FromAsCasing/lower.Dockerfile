from scratch AS one
from scratch as two
