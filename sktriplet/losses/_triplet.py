"""Triplet loss of a batch: distances, mining, elementwise loss, and reduction."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from sktriplet._parameters import Interval
from sktriplet.distances import Distance
from sktriplet.losses._base import (
    BatchLoss,
    LossSum,
    check_labels,
    check_triplets,
    class_sizes,
    elementwise_loss,
)
from sktriplet.losses._batch_all import batch_all_hinge_sum, batch_all_sum
from sktriplet.losses._elementwise import LOSSES, ElementwiseLoss, hinge
from sktriplet.mining import MINERS, ONE_TRIPLET_PER_ANCHOR, STACK_MINERS, Miner, Triplets

MINING_STRATEGIES = (*MINERS, "all")


class TripletLoss(BatchLoss):
    r"""Triplet loss over the triplets of a batch.

    For triplets (a, p, n) of an anchor, a positive of the same class, and a negative of
    another class, the default is the sum of

    .. math:: \max(d(x_a, x_p) - d(x_a, x_n) + \text{margin},\; 0)

    over the mined triplets, divided by the number of triplets that could be mined. A batch
    without triplets has a loss of zero that is connected to the graph. No mining strategy needs
    more than O(B^2) memory.

    Parameters
    ----------
    margin : float, default=0.5
        Minimum gap between the anchor-negative and anchor-positive distances, in the units
        of `metric`. Used by both mining and loss. Must be positive.
    mining : str or callable, default="semi_hard"
        Selects the triplets of a batch: the name of a function in :mod:`sktriplet.mining`
        ("semi_hard", "hard" or "random"), or "all" for every triplet (batch-all). A callable
        is called as ``(distances, labels, margin=margin, generator=generator)`` and returns
        index tensors ``(anchor, positive, negative)``.
    metric : str or callable, default="sqeuclidean"
        Distance between embeddings: the name of a function in :mod:`sktriplet.distances`
        ("sqeuclidean", "euclidean" or "cosine"), or a callable that maps embeddings (B, D) to
        distances (B, B).
    loss : str or callable, default="hinge"
        Loss of each triplet: "hinge", "soft_margin", or a callable that maps
        ``(d_ap, d_an, margin)``, the first two of shape (T,), to losses of shape (T,). With
        "soft_margin", `margin` is used by semi-hard mining only. Parameters of a callable
        are not trained with ``mining="all"``.
    reduction : {"mean", "active_mean", "sum"}, default="mean"
        How losses are combined. "mean" divides their sum by the number of triplets that
        could be mined (the denominator of `triplet_fraction`), so the gradient decreases as more
        triplets satisfy the margin. "active_mean" divides it by the number of triplets with a
        positive loss, which keeps the gradient large while few are left and makes the loss
        a poor measure of progress.
    generator : torch.Generator, default=None
        Source of random numbers for `mining`. None uses torch's global generator.

    Attributes
    ----------
    statistics : dict of str to Tensor of shape ()
        Statistics of the latest forward pass, detached; of shape (G,) for a stack of G
        batches. Undefined means are NaN.

        - triplet_fraction: number of mined triplets divided by the number of ordered pairs
          (a, p) of one class; with ``mining="hard"``, by the number of anchors with a
          positive. It is one with ``mining="all"`` and if triplets are passed.
        - active_fraction: fraction of the mined triplets with a positive loss.
        - d_ap, d_an: mean distance from anchors to positives and to negatives.
        - spread: root mean squared Euclidean distance of the embeddings to their mean.

    See Also
    --------
    TripletNCALoss : Adds an NCA term.

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
    >>> criterion = TripletLoss(margin=0.5, reduction="sum")
    >>> loss = criterion(embeddings, torch.tensor([0, 0, 1, 1]))
    >>> loss.backward()
    >>> round(loss.item(), 2)  # 1.0^2 - 1.1^2 + 0.5
    0.29
    >>> round(criterion.statistics["triplet_fraction"].item(), 2)
    0.25
    """

    accepts_stacks = True
    margin: float
    mining: str | Miner
    loss: str | ElementwiseLoss

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "margin": [Interval(Real, 0, None, closed="neither")],
        "mining": [StrOptions(set(MINING_STRATEGIES)), callable],
        "loss": [StrOptions(set(LOSSES)), callable],
        **BatchLoss._parameter_constraints,
    }

    def __init__(
        self,
        margin: float = 0.5,
        *,
        mining: str | Miner = "semi_hard",
        metric: str | Distance = "sqeuclidean",
        loss: str | ElementwiseLoss = "hinge",
        reduction: str = "mean",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self._set_parameters(
            margin=margin, mining=mining, metric=metric, loss=loss, reduction=reduction
        )
        self.generator = generator

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        *,
        triplets: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        embeddings : Tensor of shape (B, D) or (G, B, D)
            Embeddings of the samples, of a floating point type. The losses of a stack of G
            batches are averaged.
        labels : int Tensor of shape (B,) or (G, B), default=None
            Class labels from which triplets are mined.
        triplets : tuple of three int Tensors of shape (T,), default=None
            Indices of anchors, positives, and negatives into a single batch. If given instead
            of labels, these triplets are used and nothing is mined.

        Returns
        -------
        loss : Tensor of shape ()
            Reduced loss.

        Raises
        ------
        TypeError
            If the embeddings are not floating point, or labels or indices are not integers.
        ValueError
            If shapes or lengths do not match, if an index is outside the batch, or
            if not exactly one of `labels` and `triplets` is given.
        """
        return self._triplet_loss(embeddings, labels, triplets)[0]

    def _triplet_loss(
        self, embeddings: Tensor, labels: Any, triplets: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the loss, and the distances and checked labels that it was computed from."""
        if (labels is None) == (triplets is None):
            given = "neither" if labels is None else "both"
            raise ValueError(f"Pass either labels or triplets, got {given}.")
        distances = self._pairwise_distances(embeddings)
        if triplets is not None:
            if embeddings.ndim > 2:
                raise ValueError("triplets can be passed for a single batch only, not for a stack.")
            triplets = check_triplets(triplets, distances)
            loss_sum, d_ap, d_an = self._sum_over_triplets(distances, triplets)
            n_possible = loss_sum.n_terms
        else:
            labels = check_labels(labels, embeddings)
            loss_sum, d_ap, d_an = self._sum_over_mined(distances, labels)
            n_possible = self._count_possible(labels)
        self._record(
            embeddings,
            triplet_fraction=loss_sum.n_terms / n_possible,
            active_fraction=loss_sum.n_active / loss_sum.n_terms,
            d_ap=d_ap,
            d_an=d_an,
        )
        loss = loss_sum._replace(n_terms=n_possible).reduce(self.reduction)
        return loss.mean(), distances, labels

    def _sum_over_mined(self, distances: Tensor, labels: Tensor) -> tuple[LossSum, Tensor, Tensor]:
        """Return the loss summed over the mined triplets, and their mean d_ap and d_an."""
        if distances.ndim > 2 and (self.mining == "all" or self._miner not in STACK_MINERS):
            sums = [self._sum_over_mined(*batch) for batch in zip(distances, labels, strict=True)]
            loss_sums, d_ap, d_an = zip(*sums, strict=True)
            fields = zip(*loss_sums, strict=True)
            return LossSum(*map(torch.stack, fields)), torch.stack(d_ap), torch.stack(d_an)
        if self.mining == "all":
            if self._elementwise is hinge:
                return batch_all_hinge_sum(distances, labels, self.margin)
            return batch_all_sum(distances, labels, self._elementwise, self.margin)
        triplets = self._miner(
            distances.detach(), labels, margin=self.margin, generator=self.generator
        )
        if not isinstance(self.mining, str):
            triplets = check_triplets(triplets, distances.flatten(0, -2))
        return self._sum_over_triplets(distances, triplets)

    def _sum_over_triplets(
        self, distances: Tensor, triplets: Triplets
    ) -> tuple[LossSum, Tensor, Tensor]:
        n_samples = distances.shape[-1]
        pairs = torch.stack((triplets.positive, triplets.negative))
        if distances.ndim > 2:
            pairs %= n_samples  # columns
        pairs += triplets.anchor * n_samples
        # A single selection: its backward pass fills one (..., B, B) tensor, not two.
        d_ap, d_an = distances.flatten().index_select(0, pairs.flatten()).view(2, -1)
        losses = elementwise_loss(self._elementwise, d_ap, d_an, self.margin)
        is_active = (losses.detach() > 0).to(losses.dtype)
        values = torch.stack(
            (losses, torch.ones_like(is_active), is_active, d_ap.detach(), d_an.detach())
        )
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        if distances.ndim == 2:
            sums = values.sum(dim=1)
        else:
            batch = triplets.anchor.div(n_samples, rounding_mode="floor")
            sums = values.new_zeros(5, len(distances)).index_add(1, batch, values)
        loss, n_terms, n_active, sum_ap, sum_an = sums
        n_terms = n_terms.detach()
        return (
            LossSum(loss, n_terms, n_active.detach()),
            sum_ap.detach() / n_terms,
            sum_an.detach() / n_terms,
        )

    @property
    def _miner(self) -> Miner:
        return MINERS[self.mining] if isinstance(self.mining, str) else self.mining

    @property
    def _elementwise(self) -> ElementwiseLoss:
        return LOSSES[self.loss] if isinstance(self.loss, str) else self.loss

    def _count_possible(self, labels: Tensor) -> Tensor:
        """Return the number of triplets at which `triplet_fraction` is one."""
        sizes = class_sizes(labels)
        if self.mining == "all":
            return ((sizes - 1) * (labels.shape[-1] - sizes)).sum(dim=-1)
        if self._miner in ONE_TRIPLET_PER_ANCHOR:
            return (sizes > 1).sum(dim=-1)
        return (sizes - 1).sum(dim=-1)
