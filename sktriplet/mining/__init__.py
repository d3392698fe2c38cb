"""TODO."""

from sktriplet.mining._miners import MINERS, hard, random, semi_hard
from sktriplet.mining._triplets import Triplets

__all__ = ["MINERS", "Triplets", "hard", "random", "semi_hard"]
