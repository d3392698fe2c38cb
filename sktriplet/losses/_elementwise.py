"""What one triplet costs: ``(d_ap, d_an, margin) -> (T,)``, elementwise.

No labels, no indices, no reduction. A callable of the same signature is accepted
wherever a name is.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor, float], Tensor]


def hinge(d_ap: Tensor, d_an: Tensor, margin: float) -> Tensor:
    """Hinge ``max(d_ap - d_an + margin, 0)``: the negative must be farther by the margin.

    Parameters
    ----------
    d_ap, d_an : Tensor of shape (T,)
        Distances from the anchor to its positive and to its negative.
    margin : float

    Returns
    -------
    Tensor of shape (T,)
        Zero, with a zero gradient, where the triplet keeps the margin.

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
    """Soft margin ``log(1 + exp(d_ap - d_an))``: a hinge that never quite lets go.

    Parameters
    ----------
    d_ap, d_an : Tensor of shape (T,)
        Distances from the anchor to its positive and to its negative.
    margin : float, default=None
        Not used.

    Returns
    -------
    Tensor of shape (T,)

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


LOSSES: dict[str, Loss] = {"hinge": hinge, "soft_margin": soft_margin}
