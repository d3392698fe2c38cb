"""The soft-neighbour loss of neighbourhood components analysis, over a batch."""

import torch
from torch import Tensor


def nca_loss(distances: Tensor, labels: Tensor, temperature: float) -> Tensor:
    r"""How unlikely each row's stochastic neighbour is to share its class.

    Row i picks another row j as its neighbour with a probability that falls with their distance,

    .. math::
        p_{ij} = \frac{\exp(-d_{ij} / T)}{\sum_{k \neq i} \exp(-d_{ik} / T)},

    and the loss is the mean of :math:`-\log \sum_{j: y_j = y_i} p_{ij}`. Where triplets compare
    one negative with one positive, this asks for some near rows of the class, wherever the
    others are: it leaves a class that is made of several clouds in peace.

    Parameters
    ----------
    distances : Tensor of shape (B, B)
        Of all rows to all.

    labels : integer Tensor of shape (B,)

    temperature : float
        Distances that differ by less hardly matter.

    Returns
    -------
    Tensor of shape ()
        A zero that is connected to the graph where no class has two rows.

    References
    ----------
    .. [1] Goldberger, Hinton, Roweis and Salakhutdinov, "Neighbourhood Components Analysis",
       NeurIPS 2004.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.losses import nca_loss
    >>> distances = torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    >>> nca_loss(distances, torch.tensor([0, 0, 1]), temperature=1.0)  # log 2
    tensor(0.6931)
    """
    alike = (labels[:, None] == labels).fill_diagonal_(False)
    has_alike = alike.any(dim=1)
    logits = (distances / -temperature).fill_diagonal_(-torch.inf)[has_alike]
    of_class = logits.masked_fill(~alike[has_alike], -torch.inf)
    losses = logits.logsumexp(dim=1) - of_class.logsumexp(dim=1)
    return losses.sum() / max(len(losses), 1)
