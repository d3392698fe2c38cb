"""Training: skorch's loop with balanced batches, and what can be passed to it.

:class:`~sktriplet.TripletEmbedder` does all of this itself. Use these classes to reach skorch's
other settings, to resume interrupted training, or to train in a loop of your own.
"""

from sktriplet.training._checkpoint import ResumableCheckpoint
from sktriplet.training._net import TripletNet
from sktriplet.training._sampler import BalancedBatchSampler

__all__ = ["BalancedBatchSampler", "ResumableCheckpoint", "TripletNet"]
