"""Losses over a batch: ``(embeddings, labels) -> scalar``.

The one place where distances, mining, the loss of a triplet and the reduction meet. The
criteria need nothing else of this library: they serve in any training loop.
"""

from collections.abc import Iterable
from math import isfinite
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sktriplet.distances import DISTANCES, Distance
from sktriplet.losses._elementwise import Loss

REDUCTIONS = ("active_mean", "mean", "sum")


class _Total(NamedTuple):
    """The sum of the losses of some terms, and how many there are: 0-d tensors."""

    loss: Tensor
    n_terms: Tensor
    n_active: Tensor

    def reduced(self, reduction: str) -> Tensor:
        if reduction == "sum":
            return self.loss
        return self.loss / (self.n_terms if reduction == "mean" else self.n_active).clamp(min=1)


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
