"""Base class of the batch losses, and the checks that they share."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from sktriplet._parameters import validate_parameters
from sktriplet.distances import DISTANCES, Distance
from sktriplet.losses._elementwise import ElementwiseLoss
from sktriplet.mining import Triplets


class LossSum(NamedTuple):
    """Sum of the losses of some terms, and how many there are: of shape (), or (G,)."""

    loss: Tensor
    n_terms: Tensor
    n_active: Tensor

    def reduce(self, reduction: str) -> Tensor:
        """Return the sum, or a mean that is zero where there are no terms."""
        if reduction == "sum":
            return self.loss
        return self.loss / (self.n_terms if reduction == "mean" else self.n_active).clamp(min=1)


class BatchLoss(nn.Module):
    """Base class of losses that are computed from the distances of a batch.

    Subclasses add their own constraints and call `_set_parameters` in ``__init__``. Those whose
    ``forward`` accepts a stack of batches say so by an attribute of their own class.
    """

    metric: str | Distance
    reduction: str
    statistics: dict[str, Tensor]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "metric": [StrOptions(set(DISTANCES)), callable],
        "reduction": [StrOptions({"mean", "active_mean", "sum"})],
    }

    def _set_parameters(self, **parameters: Any) -> None:
        validate_parameters(self, **parameters)
        for name, value in parameters.items():
            setattr(self, name, value)  # registers the modules among them
        self._parameter_names = tuple(parameters)
        self.statistics = {}

    def extra_repr(self) -> str:
        """Return the parameters in the form of keyword arguments.

        Returns
        -------
        text : str
            Comma-separated ``name=value`` pairs.
        """
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._parameter_names)

    def _pairwise_distances(self, embeddings: Tensor) -> Tensor:
        """Return the distances (B, B) in a batch, or (G, B, B) in a stack of batches."""
        if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
            got = embeddings.dtype if isinstance(embeddings, Tensor) else type(embeddings).__name__
            raise TypeError(f"embeddings must be a floating point tensor, got {got}.")
        accepted = "(B, D) or (G, B, D)" if accepts_stacks(self) else "(B, D)"
        if embeddings.ndim != 2 and not (accepts_stacks(self) and embeddings.ndim == 3):
            raise ValueError(
                f"embeddings must have shape {accepted}, got {tuple(embeddings.shape)}."
            )
        if isinstance(self.metric, str):
            distances = DISTANCES[self.metric](embeddings)
        elif embeddings.ndim == 2:
            distances = self.metric(embeddings)
            _check_shape("metric", distances, torch.Size([len(embeddings)] * 2))
        else:
            return torch.stack([self._pairwise_distances(batch) for batch in embeddings])
        if embeddings.requires_grad and torch.is_grad_enabled() and not distances.requires_grad:
            raise ValueError("metric must return distances that torch can differentiate.")
        return distances

    def _record(
        self,
        embeddings: Tensor,
        *,
        triplet_fraction: Tensor | None = None,
        active_fraction: Tensor,
        d_ap: Tensor,
        d_an: Tensor,
    ) -> None:
        if triplet_fraction is None:
            triplet_fraction = d_ap.new_full((), torch.nan)
        self.statistics = {
            "triplet_fraction": triplet_fraction,
            "active_fraction": active_fraction,
            "d_ap": d_ap,
            "d_an": d_an,
            "spread": _spread(embeddings),
        }


def accepts_stacks(criterion: Any) -> bool:
    """Return whether a criterion maps a stack (G, B, D) to the mean loss of its batches.

    A subclass may override ``forward`` for single batches, and does not inherit the attribute.
    """
    return bool(vars(type(criterion)).get("accepts_stacks", False))


@torch.no_grad()
def _spread(embeddings: Tensor) -> Tensor:
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    from_mean = embeddings - embeddings.mean(dim=-2, keepdim=True)
    n_samples = max(embeddings.shape[-2], 1)
    return torch.linalg.vector_norm(from_mean, dim=(-2, -1)) / n_samples**0.5


def class_sizes(labels: Tensor) -> Tensor:
    """Return, for each sample, the size of its class in its batch, the sample included."""
    ordered = labels.sort(dim=-1).values
    return torch.searchsorted(ordered, labels, right=True) - torch.searchsorted(ordered, labels)


def elementwise_loss(loss: ElementwiseLoss, d_ap: Tensor, d_an: Tensor, margin: float) -> Tensor:
    """Apply a loss to each triplet and check the shape of the result."""
    losses = loss(d_ap, d_an, margin)
    _check_shape("loss", losses, d_ap.shape)
    return losses


def _check_shape(name: str, returned: Any, shape: torch.Size) -> None:
    is_tensor = isinstance(returned, Tensor)
    got = f"shape {tuple(returned.shape)}" if is_tensor else type(returned).__name__
    if got != f"shape {tuple(shape)}":
        raise ValueError(f"{name} must return a tensor of shape {tuple(shape)}, got {got}.")


def check_labels(labels: Any, embeddings: Tensor) -> Tensor:
    """Check that there is one integer label per embedding, of shape (B,) or (G, B)."""
    labels = _check_indices("labels", labels, embeddings, max_ndim=embeddings.ndim - 1)
    if labels.shape[-1] != embeddings.shape[-2]:
        raise ValueError(
            "labels and embeddings must have the same length, "
            f"got {labels.shape[-1]} and {embeddings.shape[-2]}."
        )
    if labels.ndim > 1 and len(labels) != len(embeddings):
        raise ValueError(
            "labels and embeddings must have the same number of batches, "
            f"got {len(labels)} and {len(embeddings)}."
        )
    return labels.expand(embeddings.shape[:-1]).contiguous()


def check_triplets(triplets: Any, distances: Tensor) -> Triplets:
    """Check three index tensors of one length against the size of the batch."""
    if not isinstance(triplets, Sequence) or len(triplets) != 3:
        raise ValueError(
            f"triplets must be three tensors (anchor, positive, negative), got {triplets!r}."
        )
    named = dict(zip(Triplets._fields, triplets, strict=True))
    checked = Triplets(
        *(_check_indices(name, indices, distances) for name, indices in named.items())
    )
    lengths = [len(indices) for indices in checked]
    if len(set(lengths)) > 1:
        raise ValueError(f"anchor, positive and negative must have the same length, got {lengths}.")
    for name, indices in zip(Triplets._fields, checked, strict=True):
        if len(indices) and (indices.min() < 0 or indices.max() >= len(distances)):
            raise ValueError(
                f"{name} must hold indices into a batch of {len(distances)} samples, got indices "
                f"from {indices.min()} to {indices.max()}."
            )
    return checked


def _check_indices(name: str, given: Any, like: Tensor, max_ndim: int = 1) -> Tensor:
    """Return integers as int64 on the device of `like`."""
    if not isinstance(given, Tensor) or given.is_floating_point() or given.is_complex():
        got = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise TypeError(f"{name} must be an integer tensor, got {got}.")
    if not 1 <= given.ndim <= max_ndim:
        raise ValueError(f"{name} must have one dimension, got shape {tuple(given.shape)}.")
    return given.to(like.device, torch.int64).contiguous()
