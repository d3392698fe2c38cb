"""TODO."""

from sktriplet.training._checkpoint import ResumableCheckpoint
from sktriplet.training._net import TripletNet
from sktriplet.training._sampler import BalancedBatchSampler

__all__ = ["BalancedBatchSampler", "ResumableCheckpoint", "TripletNet"]
