"""Training with skorch: the net, balanced batches, and checkpoints.

:class:`~sktriplet.TripletEmbedder` uses the first two internally. Use these classes to access
skorch's other settings, to resume interrupted training, or in your own training loop.
"""

from sktriplet.training._checkpoint import ResumableCheckpoint
from sktriplet.training._net import TripletNet
from sktriplet.training._sampler import BalancedBatchSampler

__all__ = ["BalancedBatchSampler", "ResumableCheckpoint", "TripletNet"]
