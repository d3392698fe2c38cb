"""Triplets of a batch, as index tensors."""

from typing import NamedTuple

from torch import Tensor


class Triplets(NamedTuple):
    """Indices into a batch: three int64 tensors of shape (T,)."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor
