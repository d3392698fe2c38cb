"""Selection of the triplets of a batch, ``(distances, labels) -> Triplets``.

Samples are drawn before the forward pass (`sktriplet.training.BalancedBatchSampler`); triplets are
mined after it, from the distances of the batch. A miner is a function that is called as
``miner(distances, labels, margin=margin, generator=generator)``. Any callable with this signature
is accepted wherever a name is. A sample is never its own positive.
"""

from sktriplet.mining._miners import MINERS as MINERS
from sktriplet.mining._miners import ONE_TRIPLET_PER_ANCHOR as ONE_TRIPLET_PER_ANCHOR
from sktriplet.mining._miners import STACK_MINERS as STACK_MINERS
from sktriplet.mining._miners import Miner as Miner
from sktriplet.mining._miners import hard, random, semi_hard
from sktriplet.mining._triplets import Triplets

__all__ = ["Triplets", "hard", "random", "semi_hard"]
