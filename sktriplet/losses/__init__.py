"""Losses of a batch, ``(embeddings, labels) -> scalar``, for any PyTorch training loop.

`TripletLoss` and `ContrastiveLoss` combine a distance, a choice of triplets or pairs, and a
reduction. `hinge` and `soft_margin` are losses of single triplets, and `nca_loss` is computed from
a distance matrix. Any ``nn.Module`` with the same call signature can be used as a criterion.
"""

from sktriplet.losses._contrastive import ContrastiveLoss
from sktriplet.losses._elementwise import LOSSES as LOSSES
from sktriplet.losses._elementwise import hinge, soft_margin
from sktriplet.losses._nca import TripletNCALoss, nca_loss
from sktriplet.losses._triplet import MINING_STRATEGIES as MINING_STRATEGIES
from sktriplet.losses._triplet import TripletLoss

__all__ = [
    "ContrastiveLoss",
    "TripletLoss",
    "TripletNCALoss",
    "hinge",
    "nca_loss",
    "soft_margin",
]
