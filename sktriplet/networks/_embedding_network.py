"""TODO."""

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from sktriplet.exceptions import InvalidParameterError


def validate_module(network: Any, rows: torch.Tensor, n_components: int | None) -> int:
    """Pass a few rows through the network and return the width of what comes out.

    Parameters
    ----------
    network : EmbeddingNetwork

    rows : Tensor of shape (n_rows, ...)

    n_components : int or None
        The width to expect; None is any.

    Raises
    ------
    InvalidParameterError
        If the body's output is not a finite floating point tensor of shape (n_rows,
        n_components), there is nothing to train, or what ``augment`` returns is no such batch.
    """
    with torch.no_grad():
        batch = network.eval().arranged(rows)
        output = network.outputs(batch)
        if network.augment is not None:
            _validate_augment(network, batch)
    network.train()
    if not any(weights.requires_grad for weights in network.parameters()):
        raise InvalidParameterError(
            "The 'module' parameter must have weights to train. Got a network that has none, or "
            "whose weights all have requires_grad=False."
        )
    got = repr(type(output))
    if isinstance(output, torch.Tensor):
        fits = output.is_floating_point() and output.ndim == 2 and len(output) == len(rows)
        if fits and n_components in (None, output.shape[1]) and output.isfinite().all():
            return output.shape[1]
        got = f"{output.dtype} of shape {tuple(output.shape)}"
        if fits and not output.isfinite().all():
            got += " with NaN or infinity in it"
        elif fits:
            got += " (n_components=None takes any width)"
    raise InvalidParameterError(
        f"The 'module' parameter must map a batch of shape {tuple(batch.shape)} to a finite "
        f"floating point tensor of shape ({len(rows)}, {n_components or 'n_components'}). Got "
        f"{got} instead."
    )


def _validate_augment(network: Any, batch: torch.Tensor) -> None:
    problem: Any = None
    augmented = network.augment(batch.clone())
    if isinstance(augmented, torch.Tensor):
        got = f"{augmented.dtype} of shape {tuple(augmented.shape)}"
        fits = len(augmented) == len(batch) and bool(augmented.float().isfinite().all())
        try:
            network.outputs(augmented)
        except (RuntimeError, ValueError) as error:  # torch's words for a wrong shape
            fits, problem = False, error
        if fits:
            return
    else:
        got = repr(type(augmented))
    raise InvalidParameterError(
        f"The 'augment' parameter must map a batch of shape {tuple(batch.shape)} to a finite "
        f"tensor that the network takes in its place. Got {got} instead."
    ) from problem


class ChannelsFirst(nn.Module):
    """Images of any layout, put into the one that convolutions take.

    Parameters
    ----------
    shape : tuple of int
        ``(C, H, W)``. Batches may be ``(B, C, H, W)``, ``(B, H, W, C)``, ``(B, H, W)``
        if C is 1, or ``(B, C * H * W)``, and come out as the first.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.networks._embedding_network import ChannelsFirst
    >>> ChannelsFirst((3, 8, 9))(torch.zeros(5, 8, 9, 3)).shape
    torch.Size([5, 3, 8, 9])
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        if X.ndim == 4 and X.shape[1:] != self.shape:
            return X.movedim(-1, 1)
        return X.reshape(len(X), *self.shape)


class Standardizer(nn.Module):
    """``(X - mean) / scale`` with the statistics of the training rows.

    Parameters
    ----------
    mean, scale : array-like
        Of a shape that goes with that of X.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: ArrayLike, scale: ArrayLike):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return (X - self.mean) / self.scale


class EmbeddingNetwork(nn.Module):
    """A network, and what stands before and behind it.

    Parameters
    ----------
    body : nn.Module
        Maps ``(B, ...)`` to ``(B, n_components)``.

    layout : ChannelsFirst, default=None
        None takes inputs as they are.

    augment : callable, default=None
        Maps a batch in that layout to another. In training only.

    standardizer : Standardizer, default=None
        None takes inputs as they are.

    normalize : bool, default=True
        Whether to divide each output by its Euclidean norm, or where the body has members, each
        member's part by that of the part.

    precision : {"float32", "bfloat16"}, default="float32"
        Of the body: ``"bfloat16"`` is torch's autocast. Inputs are standardized and
        outputs normalized in float32.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        layout: ChannelsFirst | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        standardizer: Standardizer | None = None,
        normalize: bool = True,
        precision: str = "float32",
    ):
        super().__init__()
        self.body = body
        self.layout = layout
        self.augment = augment
        self.standardizer = standardizer
        self.normalize = normalize
        self.precision = precision
        self.n_members: int = getattr(body, "n_members", 1)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        X = self.arranged(X)
        if self.augment is not None and self.training:
            X = self.augment(X)
        embeddings = self.outputs(X)
        if self.precision == "bfloat16":
            embeddings = embeddings.float()
        if not self.normalize:
            return embeddings
        parts = embeddings.tensor_split(self.n_members, dim=1)
        return torch.cat([F.normalize(part, dim=1) for part in parts], 1) / self.n_members**0.5

    def arranged(self, X: Tensor) -> Tensor:
        """Return images with their channels first, and tables as they are."""
        return X if self.layout is None else self.layout(X)

    def outputs(self, X: Tensor) -> Tensor:
        """Return what the body makes of an arranged batch, before it is normalized."""
        X = X.float() if self.standardizer is None else self.standardizer(X)
        if self.precision == "bfloat16":
            with torch.autocast(X.device.type, torch.bfloat16):
                return self.body(X)
        return self.body(X)
