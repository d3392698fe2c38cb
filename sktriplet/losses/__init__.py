"""TODO."""

from sktriplet.losses._contrastive import ContrastiveLoss
from sktriplet.losses._elementwise import LOSSES, hinge, soft_margin
from sktriplet.losses._nca import nca_loss
from sktriplet.losses._triplet import TripletLoss

__all__ = ["ContrastiveLoss", "LOSSES", "TripletLoss", "hinge", "nca_loss", "soft_margin"]
