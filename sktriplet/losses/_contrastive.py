"""TODO."""

import torch
from torch import Tensor, nn

from sktriplet.distances import DISTANCES, Distance
from sktriplet.losses._base import (
    REDUCTIONS,
    _checked_labels,
    _distances,
    _named,
    _number,
    _spread,
    _Total,
)


class ContrastiveLoss(nn.Module):
    r"""Contrastive loss over all pairs of a batch: alike near, different far.

    Pairs of one class cost :math:`\max(d - m_+, 0)`, pairs of two classes
    :math:`\max(m_- - d, 0)`. Each kind is reduced for itself, as there are far fewer
    of the first, and the two are added. It is the idea of [1]_ with hinges in place of
    their squares; ``metric="sqeuclidean"`` squares the distances.

    Parameters
    ----------
    pos_margin : float, default=0.0
        Pairs of one class that are at most this far apart cost nothing.
    neg_margin : float, default=1.0
        Pairs of two classes that are at least this far apart cost nothing.
    metric : {"sqeuclidean", "euclidean", "cosine"} or callable, default="euclidean"
        As in `TripletLoss`; only distances from a row to later ones are looked at.
    reduction : {"active_mean", "mean", "sum"}, default="active_mean"
        As in `TripletLoss`, over pairs; each pair counts once.

    Attributes
    ----------
    statistics : dict of str to Tensor of shape ()
        As in `TripletLoss`: active_fraction is of pairs, d_ap and d_an are the mean
        distances in pairs of one class and of two, triplet_fraction is NaN.

    References
    ----------
    .. [1] Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant
       Mapping", CVPR 2006.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.losses import ContrastiveLoss
    >>> embeddings = torch.tensor([[0.0], [0.5], [0.75]])
    >>> ContrastiveLoss()(embeddings, torch.tensor([0, 0, 1]))  # 0.5 + (0.25 + 0.75) / 2
    tensor(1.)
    """

    statistics: dict[str, Tensor]

    def __init__(
        self,
        pos_margin: float = 0.0,
        neg_margin: float = 1.0,
        *,
        metric: str | Distance = "euclidean",
        reduction: str = "active_mean",
    ) -> None:
        super().__init__()
        self.pos_margin = _number("pos_margin", pos_margin, or_zero=True)
        self.neg_margin = _number("neg_margin", neg_margin)
        self.metric = _named("metric", metric, DISTANCES)
        self.reduction = _named("reduction", reduction, REDUCTIONS, callables=False)
        self.statistics = {}

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        embeddings : Tensor of shape (B, D)
        labels : integer Tensor of shape (B,)

        Returns
        -------
        Tensor of shape ()

        Raises
        ------
        TypeError
            If the embeddings are not floating point or the labels not integers.
        ValueError
            If shapes or lengths do not fit.
        """
        distances = _distances(embeddings, self.metric)
        labels = _checked_labels(labels, embeddings)
        same = labels[:, None] == labels
        alike, d_ap = _over_pairs(distances, same.triu(1), (distances - self.pos_margin).relu())
        different, d_an = _over_pairs(
            distances, (~same).triu(1), (self.neg_margin - distances).relu()
        )
        n_active = alike.n_active + different.n_active
        self.statistics = {
            "triplet_fraction": distances.new_full((), torch.nan),
            "active_fraction": n_active / (alike.n_terms + different.n_terms),
            "d_ap": d_ap,
            "d_an": d_an,
            "spread": _spread(embeddings),
        }
        return alike.reduced(self.reduction) + different.reduced(self.reduction)

    def extra_repr(self) -> str:
        """Return the parameters as they are written in a call."""
        names = ("pos_margin", "neg_margin", "metric", "reduction")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


def _over_pairs(distances: Tensor, kind: Tensor, losses: Tensor) -> tuple[_Total, Tensor]:
    """Return the total over the pairs of a kind (B, B), and their mean distance."""
    n_pairs = kind.sum()
    n_active = ((losses.detach() > 0) & kind).sum()
    distance = (distances.detach() * kind).sum() / n_pairs
    return _Total((losses * kind).sum(), n_pairs, n_active), distance
