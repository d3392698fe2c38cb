"""Losses of single triplets: ``(d_ap, d_an, margin) -> (T,)``, without labels or reduction."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

ElementwiseLoss = Callable[[Tensor, Tensor, float], Tensor]


def hinge(d_ap: Tensor, d_an: Tensor, margin: float) -> Tensor:
    """Compute the hinge loss ``max(d_ap - d_an + margin, 0)`` of each triplet.

    The loss and its gradient are zero for triplets whose negative is farther from the anchor
    than the positive by at least the margin [1]_.

    Parameters
    ----------
    d_ap : Tensor of shape (T,)
        Distances from the anchors to their positives.
    d_an : Tensor of shape (T,)
        Distances from the anchors to their negatives.
    margin : float
        Minimum gap between the two distances.

    Returns
    -------
    losses : Tensor of shape (T,)
        Loss of each triplet.

    References
    ----------
    .. [1] Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face
       Recognition and Clustering", CVPR 2015.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.losses import hinge
    >>> hinge(torch.tensor([1.0, 1.0]), torch.tensor([1.25, 3.0]), margin=0.5)
    tensor([0.2500, 0.0000])
    """
    return F.relu(d_ap - d_an + margin)


def soft_margin(d_ap: Tensor, d_an: Tensor, margin: float | None = None) -> Tensor:
    """Compute the soft-margin loss ``log(1 + exp(d_ap - d_an))`` of each triplet.

    A smooth upper bound of the hinge at zero margin. Its gradient never vanishes [1]_.

    Parameters
    ----------
    d_ap : Tensor of shape (T,)
        Distances from the anchors to their positives.
    d_an : Tensor of shape (T,)
        Distances from the anchors to their negatives.
    margin : float, default=None
        Ignored, present for API consistency.

    Returns
    -------
    losses : Tensor of shape (T,)
        Loss of each triplet.

    References
    ----------
    .. [1] Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person
       Re-Identification", arXiv:1703.07737, 2017.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.losses import soft_margin
    >>> soft_margin(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 3.0]))
    tensor([0.6931, 0.1269])
    """
    return F.softplus(d_ap - d_an)


LOSSES: dict[str, ElementwiseLoss] = {"hinge": hinge, "soft_margin": soft_margin}
