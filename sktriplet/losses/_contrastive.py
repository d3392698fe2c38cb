"""Contrastive loss of a batch."""

from numbers import Real
from typing import Any, ClassVar

from torch import Tensor

from sktriplet._parameters import Interval
from sktriplet.distances import Distance
from sktriplet.losses._base import BatchLoss, LossSum, check_labels


class ContrastiveLoss(BatchLoss):
    r"""Contrastive loss over all pairs of a batch.

    Pairs of the same class have the loss :math:`\max(d - m_+, 0)`, pairs of different classes
    :math:`\max(m_- - d, 0)`. Both groups are reduced separately, because there are far fewer
    pairs of the same class, and the results are added. This follows [1]_ with hinges instead of
    squared hinges; ``metric="sqeuclidean"`` squares the distances.

    Parameters
    ----------
    pos_margin : float, default=0.0
        Distance up to which pairs of the same class have zero loss.
    neg_margin : float, default=1.0
        Distance beyond which pairs of different classes have zero loss.
    metric : str or callable, default="euclidean"
        Distance between embeddings: the name of a function in :mod:`sktriplet.distances`
        ("sqeuclidean", "euclidean" or "cosine"), or a callable that maps embeddings (B, D) to
        distances (B, B). Only the upper triangle is used.
    reduction : {"mean", "active_mean", "sum"}, default="mean"
        How the losses of each group are combined: "mean" over all of its pairs, "active_mean"
        over those with a positive loss. Each pair counts once.

    Attributes
    ----------
    statistics : dict of str to Tensor of shape ()
        Statistics of the latest forward pass, detached. Undefined means are NaN.

        - triplet_fraction: NaN, for consistency with the triplet loss.
        - active_fraction: fraction of the pairs with a positive loss.
        - d_ap, d_an: mean distance in pairs of the same class and of different classes.
        - spread: root mean squared Euclidean distance of the embeddings to their mean.

    See Also
    --------
    TripletLoss : Compares distances with each other instead of with fixed margins.

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

    pos_margin: float
    neg_margin: float

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "pos_margin": [Interval(Real, 0, None, closed="left")],
        "neg_margin": [Interval(Real, 0, None, closed="neither")],
        **BatchLoss._parameter_constraints,
    }

    def __init__(
        self,
        pos_margin: float = 0.0,
        neg_margin: float = 1.0,
        *,
        metric: str | Distance = "euclidean",
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self._set_parameters(
            pos_margin=pos_margin, neg_margin=neg_margin, metric=metric, reduction=reduction
        )

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        embeddings : Tensor of shape (B, D)
            Embeddings of the samples, of a floating point type.
        labels : int Tensor of shape (B,)
            Class labels.

        Returns
        -------
        loss : Tensor of shape ()
            Reduced loss of the pairs of the same class plus that of the other pairs.

        Raises
        ------
        TypeError
            If the embeddings are not floating point or the labels are not integers.
        ValueError
            If shapes or lengths do not match.
        """
        distances = self._pairwise_distances(embeddings)
        labels = check_labels(labels, embeddings)
        same_class = labels[:, None] == labels
        positive, d_ap = _pair_sum(
            distances, same_class.triu(1), (distances - self.pos_margin).relu()
        )
        negative, d_an = _pair_sum(
            distances, (~same_class).triu(1), (self.neg_margin - distances).relu()
        )
        n_active = positive.n_active + negative.n_active
        self._record(
            embeddings,
            active_fraction=n_active / (positive.n_terms + negative.n_terms),
            d_ap=d_ap,
            d_an=d_an,
        )
        return positive.reduce(self.reduction) + negative.reduce(self.reduction)


def _pair_sum(distances: Tensor, is_pair: Tensor, losses: Tensor) -> tuple[LossSum, Tensor]:
    """Return the loss summed over the pairs in a mask (B, B), and their mean distance."""
    n_pairs = is_pair.sum()
    n_active = ((losses.detach() > 0) & is_pair).sum()
    mean_distance = (distances.detach() * is_pair).sum() / n_pairs
    return LossSum((losses * is_pair).sum(), n_pairs, n_active), mean_distance
