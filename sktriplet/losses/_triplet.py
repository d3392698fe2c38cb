"""TODO."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sktriplet.distances import DISTANCES, Distance
from sktriplet.losses._base import (
    REDUCTIONS,
    _checked_labels,
    _class_sizes,
    _distances,
    _each,
    _indices,
    _named,
    _number,
    _spread,
    _Total,
)
from sktriplet.losses._batch_all import _over_all, _over_all_hinges
from sktriplet.losses._elementwise import LOSSES, Loss, hinge
from sktriplet.losses._nca import nca_loss
from sktriplet.mining import MINERS, Triplets
from sktriplet.mining._miners import Miner

MINING_STRATEGIES = (*MINERS, "all")


# The temperature of the soft-neighbour term, in margins: both are in the units of the metric.
NCA_TEMPERATURE = 0.4


class TripletLoss(nn.Module):
    r"""Triplet loss over the triplets of a batch.

    For triplets (a, p, n) of an anchor, a positive of the same class and a negative of
    another, the default is the mean of

    .. math:: \max(d(x_a, x_p) - d(x_a, x_n) + \text{margin},\; 0)

    over the triplets for which it is positive. A batch without triplets gives a zero
    that is connected to the graph. Time and memory are in the docstrings of
    `semi_hard` and `batch_all_counts`; no strategy takes more than O(B^2) memory.

    Parameters
    ----------
    margin : float, default=0.2
        How much farther than the positive the negative should be, in the units of
        `metric`; a positive number.
    mining : {"semi_hard", "hard", "random", "all"} or callable, default="semi_hard"
        Which triplets of the batch count; see `sktriplet.mining`. "all" takes every
        one (batch-all). A callable is called as
        ``(distances, labels, margin=margin, generator=generator)`` and returns index
        tensors ``(anchor, positive, negative)``.
    metric : {"sqeuclidean", "euclidean", "cosine"} or callable, default="sqeuclidean"
        Distance of all rows to all; see `sktriplet.distances`. A callable takes
        embeddings (B, D) and returns distances (B, B), small meaning alike.
    loss : {"hinge", "soft_margin"} or callable, default="hinge"
        What a triplet costs; see `sktriplet.losses`. A callable takes
        ``(d_ap, d_an, margin)``, the first two of shape (T,), and returns (T,). With
        "soft_margin", `margin` only bounds semi-hard mining, and scales the soft-neighbour
        term. Parameters of a callable are not trained with ``mining="all"``.
    reduction : {"active_mean", "mean", "sum"}, default="active_mean"
        "active_mean" is the mean over triplets with a positive loss, which keeps the
        gradient large while few are left, and says little about progress. "mean" is
        over all triplets that could be mined, as triplet_fraction counts them: a pair
        that found none costs nothing, and the gradient fades as the margin is kept.
    nca_weight : float, default=0.0
        Of :func:`~sktriplet.losses.nca_loss`, added to the triplet loss where labels are
        given, at a temperature of 0.4 margins.
    generator : torch.Generator, default=None
        Only used when `mining` draws at random. None draws from torch's global
        generator.

    Attributes
    ----------
    statistics : dict of str to Tensor of shape ()
        Of the latest forward pass, detached and on its device; undefined means are NaN.

        - triplet_fraction: triplets found over ordered pairs (a, p) of one class; with
          ``mining="hard"`` over the anchors that have a positive; with
          ``mining="all"`` over all triplets, which is one, as when triplets are given.
        - active_fraction: the fraction of triplets with a positive loss.
        - d_ap, d_an: mean distance from anchor to positive and to negative.
        - spread: root mean squared Euclidean distance of the embeddings to their mean.

    References
    ----------
    .. [1] Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face
       Recognition and Clustering", CVPR 2015.
    .. [2] Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person
       Re-Identification", arXiv:1703.07737, 2017.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.losses import TripletLoss
    >>> embeddings = torch.tensor([[0.0], [1.0], [1.1], [5.0]], requires_grad=True)
    >>> criterion = TripletLoss(margin=0.5)
    >>> loss = criterion(embeddings, torch.tensor([0, 0, 1, 1]))
    >>> loss.backward()
    >>> round(loss.item(), 2)  # 1.0^2 - 1.1^2 + 0.5
    0.29
    >>> round(criterion.statistics["triplet_fraction"].item(), 2)
    0.25
    """

    statistics: dict[str, Tensor]

    def __init__(
        self,
        margin: float = 0.2,
        *,
        mining: str | Miner = "semi_hard",
        metric: str | Distance = "sqeuclidean",
        loss: str | Loss = "hinge",
        reduction: str = "active_mean",
        nca_weight: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.margin = _number("margin", margin)
        self.mining = _named("mining", mining, MINING_STRATEGIES)
        self.metric = _named("metric", metric, DISTANCES)
        self.loss = _named("loss", loss, LOSSES)
        self.reduction = _named("reduction", reduction, REDUCTIONS, callables=False)
        self.nca_weight = _number("nca_weight", nca_weight, or_zero=True)
        self.generator = generator
        self.statistics = {}

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        *,
        triplets: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        embeddings : Tensor of shape (B, D)
        labels : integer Tensor of shape (B,), default=None
            Classes to mine triplets from.
        triplets : tuple of three integer Tensors of shape (T,), default=None
            Rows that are anchors, positives and negatives, in place of labels: train
            on these and mine nothing.

        Returns
        -------
        Tensor of shape ()

        Raises
        ------
        TypeError
            If the embeddings are not floating point, or labels or indices not integers.
        ValueError
            If shapes or lengths do not fit, if an index is outside the batch, or
            unless exactly one of `labels` and `triplets` is given.
        """
        if (labels is None) == (triplets is None):
            given = "neither" if labels is None else "both"
            raise ValueError(f"Pass either labels or triplets=, got {given}.")
        distances = _distances(embeddings, self.metric)
        if triplets is not None:
            listed = _checked_triplets(triplets, distances)
            total, d_ap, d_an = _over_listed(distances, listed, self._loss, self.margin)
            n_possible = total.n_terms
        else:
            labels = _checked_labels(labels, embeddings)
            total, d_ap, d_an = self._over_mined(distances, labels)
            n_possible = self._n_possible(labels)
        self.statistics = {
            "triplet_fraction": total.n_terms / n_possible,
            "active_fraction": total.n_active / total.n_terms,
            "d_ap": d_ap,
            "d_an": d_an,
            "spread": _spread(embeddings),
        }
        of_triplets = total._replace(n_terms=n_possible).reduced(self.reduction)
        if labels is None or not self.nca_weight:
            return of_triplets
        temperature = NCA_TEMPERATURE * self.margin
        return of_triplets + self.nca_weight * nca_loss(distances, labels, temperature)

    @property
    def _loss(self) -> Loss:
        return LOSSES[self.loss] if isinstance(self.loss, str) else self.loss

    def _over_mined(self, distances: Tensor, labels: Tensor) -> "tuple[_Total, Tensor, Tensor]":
        if self.mining == "all":
            if self._loss is hinge:
                return _over_all_hinges(distances, labels, self.margin)
            return _over_all(distances, labels, self._loss, self.margin)
        miner = MINERS[self.mining] if isinstance(self.mining, str) else self.mining
        triplets = miner(distances.detach(), labels, margin=self.margin, generator=self.generator)
        if not isinstance(self.mining, str):
            triplets = _checked_triplets(triplets, distances)
        return _over_listed(distances, triplets, self._loss, self.margin)

    def _n_possible(self, labels: Tensor) -> Tensor:
        """Return how many triplets would make the triplet_fraction one."""
        sizes = _class_sizes(labels)
        if self.mining == "all":
            return ((sizes - 1) * (len(labels) - sizes)).sum()
        if self.mining == "hard":
            return (sizes > 1).sum()
        return (sizes - 1).sum()

    def extra_repr(self) -> str:
        """Return the parameters as they are written in a call."""
        names = ("margin", "mining", "metric", "loss", "reduction", "nca_weight")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


# Each of the following returns the total over some triplets, and the means of d_ap and d_an.
def _over_listed(
    distances: Tensor, triplets: Triplets, loss: Loss, margin: float
) -> tuple[_Total, Tensor, Tensor]:
    # One selection for both: its backward pass fills one (B, B) matrix, not two.
    pairs = torch.stack((triplets.positive, triplets.negative))
    pairs += triplets.anchor * len(distances)
    d_ap, d_an = distances.flatten().index_select(0, pairs.flatten()).view(2, -1)
    losses = _each(loss, d_ap, d_an, margin)
    n_active = (losses.detach() > 0).count_nonzero()
    total = _Total(losses.sum(), n_active.new_full((), len(losses)), n_active)
    return total, d_ap.detach().mean(), d_an.detach().mean()


def _checked_triplets(triplets: Any, distances: Tensor) -> Triplets:
    if not isinstance(triplets, Sequence) or len(triplets) != 3:
        raise ValueError(
            f"triplets must be three tensors (anchor, positive, negative), got {triplets!r}."
        )
    checked = Triplets(
        *(
            _indices(name, rows, distances)
            for name, rows in zip(Triplets._fields, triplets, strict=True)
        )
    )
    lengths = [len(rows) for rows in checked]
    if len(set(lengths)) > 1:
        raise ValueError(f"anchor, positive and negative must be of one length, got {lengths}.")
    for name, rows in zip(Triplets._fields, checked, strict=True):
        if len(rows) and (rows.min() < 0 or rows.max() >= len(distances)):
            raise ValueError(
                f"{name} must hold rows of a batch of {len(distances)}, got indices from "
                f"{rows.min()} to {rows.max()}."
            )
    return checked
