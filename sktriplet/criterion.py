"""Losses over a batch: ``(embeddings, labels) -> scalar``.

The one place where distances, mining, the loss of a triplet and the reduction meet. The
criteria need nothing else of this library: they serve in any training loop.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sktriplet.distances import DISTANCES, Distance
from sktriplet.losses import LOSSES, Loss, hinge
from sktriplet.mining import MINERS, Miner, Triplets, batch_all_counts
from sktriplet.nca import nca_loss

MINING_STRATEGIES = (*MINERS, "all")
REDUCTIONS = ("active_mean", "mean", "sum")

# The temperature of the soft-neighbour term, in margins: both are in the units of the metric.
NCA_TEMPERATURE = 0.4

# Triplets that batch-all holds at a time when it has to look at each of them.
_CHUNK = 1 << 20


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
        Of :func:`~sktriplet.nca.nca_loss`, added to the triplet loss where labels are
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
    >>> from sktriplet.criterion import TripletLoss
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
    >>> from sktriplet.criterion import ContrastiveLoss
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


class _Total(NamedTuple):
    """The sum of the losses of some terms, and how many there are: 0-d tensors."""

    loss: Tensor
    n_terms: Tensor
    n_active: Tensor

    def reduced(self, reduction: str) -> Tensor:
        if reduction == "sum":
            return self.loss
        return self.loss / (self.n_terms if reduction == "mean" else self.n_active).clamp(min=1)


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


def _over_all_hinges(
    distances: Tensor, labels: Tensor, margin: float
) -> tuple[_Total, Tensor, Tensor]:
    fixed = distances.detach()
    counts = batch_all_counts(fixed, labels, margin=margin)
    n_active = counts.relu().sum()
    n_triplets, d_ap, d_an = _all_triplets(fixed, labels)
    loss = (counts * distances).sum() + margin * n_active
    return _Total(loss, n_triplets, n_active), d_ap, d_an


def _over_all(
    distances: Tensor, labels: Tensor, loss: Loss, margin: float
) -> tuple[_Total, Tensor, Tensor]:
    """Look at every triplet, some anchors at a time.

    What a chunk adds to the gradient with respect to the distances is computed at once,
    so that nothing but a (B, B) matrix is kept for the backward pass.
    """
    fixed = distances.detach()
    gradient = torch.zeros_like(fixed) if distances.requires_grad else None
    total, n_active = fixed.new_zeros(()), fixed.new_zeros(())
    for anchors, positives, negatives in _anchor_chunks(labels):
        # (R, P, 1) and (R, 1, N): every pair of both is a triplet
        d_ap = fixed[anchors, positives].unsqueeze(2).requires_grad_(gradient is not None)
        d_an = fixed[anchors, negatives].unsqueeze(1).requires_grad_(gradient is not None)
        with torch.set_grad_enabled(gradient is not None):
            each_ap, each_an = torch.broadcast_tensors(d_ap, d_an)
            losses = _each(loss, each_ap.flatten(), each_an.flatten(), margin)
            chunk_total = losses.sum()
        if gradient is not None and chunk_total.requires_grad:
            of_ap, of_an = torch.autograd.grad(chunk_total, (d_ap, d_an))
            gradient[anchors, positives] = of_ap.squeeze(2)
            gradient[anchors, negatives] = of_an.squeeze(1)
        total += chunk_total.detach()
        n_active += (losses.detach() > 0).sum()
    if gradient is not None:
        total = _WithGradient.apply(distances, total, gradient)
    n_triplets, d_ap, d_an = _all_triplets(fixed, labels)
    return _Total(total, n_triplets, n_active), d_ap, d_an


def _anchor_chunks(labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield anchors (R, 1) of one class, their positives (R, P) and negatives (R, N)."""
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        others = (labels != label).nonzero().squeeze(1)
        n_positives, n_negatives = len(members) - 1, len(others)
        if n_positives == 0 or n_negatives == 0:
            continue
        for anchors in members.split(max(1, _CHUNK // (n_positives * n_negatives))):
            anchors = anchors[:, None]
            alike = members.expand(len(anchors), -1)
            positives = alike[alike != anchors].view(len(anchors), n_positives)
            yield anchors, positives, others.expand(len(anchors), -1)


class _WithGradient(torch.autograd.Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, distances: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("With mining='all' only the hinge can be differentiated twice.")
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient, None, None


def _all_triplets(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the number of all triplets and the means of d_ap and d_an over them.

    A pair (a, p) is in as many triplets as a has negatives, a pair (a, n) in as many as
    it has positives.
    """
    alike = (labels[:, None] == labels).fill_diagonal_(False)
    sizes = _class_sizes(labels)
    n_positives, n_negatives = sizes - 1, len(labels) - sizes
    n_triplets = (n_positives * n_negatives).sum()
    to_alike = (distances * alike).sum(dim=1)
    to_different = distances.sum(dim=1) - distances.diagonal() - to_alike
    d_ap = (to_alike * n_negatives).sum() / n_triplets
    d_an = (to_different * n_positives).sum() / n_triplets
    return n_triplets, d_ap, d_an


def _class_sizes(labels: Tensor) -> Tensor:
    """Return for each row how many rows have its label, itself included."""
    ordered = labels.sort().values
    return torch.searchsorted(ordered, labels, right=True) - torch.searchsorted(ordered, labels)


def _each(loss: Loss, d_ap: Tensor, d_an: Tensor, margin: float) -> Tensor:
    losses = loss(d_ap, d_an, margin)
    _check_returned("loss", losses, d_ap.shape)
    return losses


def _check_returned(name: str, given: Any, shape: torch.Size) -> None:
    """Check what a callable returned: a loss for each triplet, or a distance for each pair."""
    got = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
    if got != f"shape {tuple(shape)}":
        raise ValueError(f"{name} must return a tensor of shape {tuple(shape)}, got {got}.")


def _over_pairs(distances: Tensor, kind: Tensor, losses: Tensor) -> tuple[_Total, Tensor]:
    """Return the total over the pairs of a kind (B, B), and their mean distance."""
    n_pairs = kind.sum()
    n_active = ((losses.detach() > 0) & kind).sum()
    distance = (distances.detach() * kind).sum() / n_pairs
    return _Total((losses * kind).sum(), n_pairs, n_active), distance


@torch.no_grad()
def _spread(embeddings: Tensor) -> Tensor:
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    from_mean = embeddings - embeddings.mean(dim=0)
    return torch.linalg.vector_norm(from_mean) / len(embeddings) ** 0.5


def _number(name: str, given: Any, *, or_zero: bool = False) -> float:
    wanted = "a finite number, at least 0" if or_zero else "a finite number above 0"
    if isinstance(given, bool) or not isinstance(given, Real):
        raise TypeError(f"{name} must be {wanted}, got {given!r}.")
    number = float(given)
    if not (isfinite(number) and (number > 0 or (or_zero and number == 0))):
        raise ValueError(f"{name} must be {wanted}, got {given!r}.")
    return number


def _named(name: str, given: Any, allowed: Iterable[str], *, callables: bool = True) -> Any:
    if callables and callable(given):
        return given
    wanted = ", ".join(map(repr, allowed)) + (" or a callable" if callables else "")
    if not isinstance(given, str):
        raise TypeError(f"{name} must be one of {wanted}, got {given!r}.")
    if given not in allowed:
        raise ValueError(f"{name} must be one of {wanted}, got {given!r}.")
    return given


def _distances(embeddings: Tensor, metric: str | Distance) -> Tensor:
    if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
        got = embeddings.dtype if isinstance(embeddings, Tensor) else type(embeddings).__name__
        raise TypeError(f"embeddings must be a floating point tensor, got {got}.")
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must have shape (B, D), got {tuple(embeddings.shape)}.")
    distances = (DISTANCES[metric] if isinstance(metric, str) else metric)(embeddings)
    _check_returned("metric", distances, torch.Size([len(embeddings)] * 2))
    if embeddings.requires_grad and torch.is_grad_enabled() and not distances.requires_grad:
        raise ValueError("metric must return distances that torch can differentiate.")
    return distances


def _indices(name: str, given: Any, like: Tensor) -> Tensor:
    """Return a vector of integers as int64 on the device of `like`."""
    if not isinstance(given, Tensor) or given.is_floating_point() or given.is_complex():
        got = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise TypeError(f"{name} must be an integer tensor, got {got}.")
    if given.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {tuple(given.shape)}.")
    return given.to(like.device, torch.int64).contiguous()


def _checked_labels(labels: Any, embeddings: Tensor) -> Tensor:
    labels = _indices("labels", labels, embeddings)
    if len(labels) != len(embeddings):
        raise ValueError(
            f"labels and embeddings must be of one length, got {len(labels)} and {len(embeddings)}."
        )
    return labels


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
