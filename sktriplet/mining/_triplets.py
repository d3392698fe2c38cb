"""Triplets of a batch."""

from typing import NamedTuple

from torch import Tensor


class Triplets(NamedTuple):
    """Triplets of a batch: three int64 tensors of indices, each of shape (T,).

    Parameters
    ----------
    anchor : Tensor of shape (T,)
        Indices of the anchors.
    positive : Tensor of shape (T,)
        Indices of samples of the anchors' classes.
    negative : Tensor of shape (T,)
        Indices of samples of other classes.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.mining import Triplets
    >>> Triplets(*torch.tensor([[0], [1], [2]])).negative
    tensor([2])
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor
