"""The network that is trained: a backbone with its preprocessing and normalization."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from sktriplet.exceptions import InvalidParameterError
from sktriplet.networks._precision import DTYPE
from sktriplet.networks._whitening import Whitening

# Layers that require ids.
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


class ChannelsFirst(nn.Module):
    """Convert batches of images or sequences of any supported layout to channels first.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample: ``(C, H, W)`` of an image, ``(C, L)`` of a sequence. Batches of images
        of shape (B, C, H, W), (B, H, W, C), (B, C * H * W) and, if C is 1, (B, H, W) are
        converted to (B, C, H, W), and sequences likewise. A shape that fits both of the first
        two is taken as (B, C, H, W).
    contiguous : bool, default=False
        Whether to return batches that are contiguous in memory, as user-defined modules may
        require. If False, batches with channels last are not copied.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.networks._embedding_network import ChannelsFirst
    >>> ChannelsFirst((3, 8, 9))(torch.zeros(5, 8, 9, 3)).shape
    torch.Size([5, 3, 8, 9])
    """

    def __init__(self, shape: tuple[int, ...], *, contiguous: bool = False):
        super().__init__()
        self.shape = tuple(shape)
        self.contiguous = contiguous

    def forward(self, X: Tensor) -> Tensor:
        """Return the batch with shape (B, C, H, W) or (B, C, L)."""
        if X.ndim > len(self.shape) and X.shape[1:] != self.shape:
            X = X.movedim(-1, 1)
        else:
            X = X.reshape(len(X), *self.shape)
        return X.contiguous() if self.contiguous else X


class OneHot(nn.Module):
    """Expand categorical features, which come as indices of columns, to one-hot columns.

    Parameters
    ----------
    n_plain : int
        Number of features that are not expanded. They come first.
    n_outputs : int
        Number of features with one-hot columns. A categorical feature of a batch holds the index of
        the output that is one, or -1 if there is none.
    contiguous : bool, default=False
        Whether to return batches that are contiguous in memory.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.networks._embedding_network import OneHot
    >>> OneHot(1, 4)(torch.tensor([[0.5, 3.0], [1.5, -1.0]]))
    tensor([[0.5000, 0.0000, 0.0000, 1.0000],
            [1.5000, 0.0000, 0.0000, 0.0000]])
    """

    def __init__(self, n_plain: int, n_outputs: int, *, contiguous: bool = False):
        super().__init__()
        self.n_plain = n_plain
        self.n_outputs = n_outputs
        self.contiguous = contiguous

    def forward(self, X: Tensor) -> Tensor:
        """Return the batch with shape (B, n_outputs)."""
        # One more column takes the ones of features without a column.
        expanded = X.new_zeros(len(X), self.n_outputs + 1)
        expanded[:, : self.n_plain] = X[:, : self.n_plain]
        columns = X[:, self.n_plain :].long()
        expanded.scatter_(1, columns.where(columns >= 0, self.n_outputs), 1)
        expanded = expanded[:, :-1]
        return expanded.contiguous() if self.contiguous else expanded


class Standardizer(nn.Module):
    """Standardize features with fixed statistics: ``(X - mean) / scale``.

    Parameters
    ----------
    mean, scale : array-like
        Statistics of the training data, of shapes that broadcast with a batch.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: ArrayLike, scale: ArrayLike):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=DTYPE))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=DTYPE))

    def forward(self, X: Tensor) -> Tensor:
        """Return the standardized batch."""
        return (X - self.mean) / self.scale


class EmbeddingNetwork(nn.Module):
    """A backbone with its preprocessing and the normalization of its outputs.

    A batch passes through ``input_layout``, ``augment`` (in training mode only), ``scaler`` and
    ``backbone``, and is normalized.

    Parameters
    ----------
    backbone : nn.Module
        Maps a batch (B, ...) to (B, n_components). An ensemble has an attribute ``n_members``, and
        its members compute consecutive parts of the output, of the widths that
        `torch.tensor_split` returns.
    input_layout : nn.Module, default=None
        Conversion of batches of images or categorical features. By default, batches are not
        converted.
    augment : callable, default=None
        Maps a batch, in the layout that the backbone takes and not yet scaled, to an augmented
        batch.
    scaler : Standardizer, default=None
        Standardization of the inputs. By default, they are only converted to float32.
    normalize : bool, default=True
        If True, scale outputs with more than one component to unit Euclidean norm. The outputs
        of an ensemble are normalized per member, and all members' parts have the same norm.
    precision : {"float32", "bfloat16"}, default="float32"
        Precision of the backbone. "bfloat16" is torch's autocast. Scaling and normalization are
        in float32 with both.
    keeps_integers : bool, default=False
        Whether inputs that are not standardized reach the backbone as they are, such as ids.

    Attributes
    ----------
    n_members : int
        Number of members of the backbone, 1 if it is not an ensemble.
    members_are_independent : bool
        Whether no two members share weights, as the backbone declares by the same attribute.
    whitening : Whitening or None
        Map of the normalized embeddings, which are normalized again; in evaluation mode only.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        input_layout: nn.Module | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        scaler: Standardizer | None = None,
        normalize: bool = True,
        precision: str = "float32",
        keeps_integers: bool = False,
    ):
        super().__init__()
        self.backbone = backbone
        self.input_layout = input_layout
        self.augment = augment
        self.scaler = scaler
        self.normalize = normalize
        self.precision = precision
        self.keeps_integers = keeps_integers
        self.whitening: Whitening | None = None
        self.n_members: int = getattr(backbone, "n_members", 1)
        self.members_are_independent = bool(getattr(backbone, "members_are_independent", False))

    def forward(self, X: Tensor) -> Tensor:
        """Embed a batch.

        Parameters
        ----------
        X : Tensor of shape (B, ...)
            Batch in any layout that ``input_layout`` converts.

        Returns
        -------
        embeddings : Tensor of shape (B, n_components)
            Embeddings, in float32.
        """
        X = self.to_channels_first(X)
        if self.augment is not None and self.training:
            X = self.augment(X)
        embeddings = self.forward_backbone(X)
        if self.precision == "bfloat16":
            embeddings = embeddings.float()
        if not self.normalize or embeddings.shape[1] == 1:
            return embeddings
        embeddings = self._normalized(embeddings)
        if self.whitening is None or self.training:
            return embeddings
        return self._normalized(self.whitening(embeddings))

    def _normalized(self, embeddings: Tensor) -> Tensor:
        """Return embeddings whose parts have the same norm, and which have unit norm."""
        parts = embeddings.tensor_split(self.n_members, dim=1)
        normalized = [F.normalize(part, dim=1) if part.shape[1] > 1 else part for part in parts]
        return torch.cat(normalized, 1) / self.n_members**0.5

    def to_channels_first(self, X: Tensor) -> Tensor:
        """Return samples with channels first, and tables with one-hot columns."""
        return X if self.input_layout is None else self.input_layout(X)

    def forward_backbone(self, X: Tensor) -> Tensor:
        """Return the outputs of the backbone for a batch with channels first, not normalized."""
        X = self.scale(X)
        if self.precision == "bfloat16":
            with torch.autocast(device_of(X).type, torch.bfloat16):
                return self.call_backbone(X)
        return self.call_backbone(X)

    def scale(self, X: Tensor) -> Tensor:
        """Return the standardized batch, or floating point numbers, or ids."""
        if self.scaler is not None:
            return self.scaler(X)
        return X if self.keeps_integers else X.float()

    def call_backbone(self, X: Tensor) -> Tensor:
        """Return the outputs of the backbone for a standardized batch."""
        return self.backbone(X)

    def split_embeddings(self, embeddings: Tensor) -> list[Tensor]:
        """Split embeddings into the parts to which the loss is applied separately.

        Parameters
        ----------
        embeddings : Tensor of shape (B, n_components)
            Embeddings of a batch.

        Returns
        -------
        parts : list of Tensor
            One part per ensemble member, scaled by the square root of their number: Euclidean
            distances between whole embeddings are the root mean square of those between the
            parts, and parts of normalized embeddings have unit norm. If the
            backbone is not an ensemble, the only part is the whole embedding.
        """
        if self.n_members == 1:
            return [embeddings]
        return list((embeddings * self.n_members**0.5).tensor_split(self.n_members, dim=1))


class MultiInputNetwork(EmbeddingNetwork):
    """A network of several inputs, which it passes to the backbone as keyword arguments.

    Parameters
    ----------
    backbone : nn.Module
        Called with one keyword argument per input.
    inputs : dict of str to EmbeddingNetwork
        Networks without backbones, which preprocess the inputs.
    **settings : dict
        Passed to `EmbeddingNetwork`.
    """

    def __init__(self, backbone: nn.Module, inputs: dict[str, EmbeddingNetwork], **settings: Any):
        super().__init__(backbone, **settings)
        # The names of attributes of modules, such as type, are not available as keys.
        self.inputs = nn.ModuleDict({f"input_{name}": item for name, item in inputs.items()})
        self.keeps_integers = any(item.keeps_integers for item in inputs.values())

    def forward(self, **inputs: Tensor) -> Tensor:  # type: ignore[override]
        """Embed a batch of several inputs."""
        return super().forward(inputs)  # type: ignore[arg-type]

    def to_channels_first(self, X: Any) -> Any:
        """Return all inputs with channels first."""
        return {name: self._input(name).to_channels_first(item) for name, item in X.items()}

    def scale(self, X: Any) -> Any:
        """Return all inputs standardized, or as floating point numbers, or ids."""
        return {name: self._input(name).scale(item) for name, item in X.items()}

    def call_backbone(self, X: Any) -> Tensor:
        """Return the outputs of the backbone."""
        return self.backbone(**X)

    def _input(self, name: str) -> Any:
        return self.inputs[f"input_{name}"]


def device_of(X: Any) -> torch.device:
    """Return the device of a batch, which may have several inputs."""
    return next(iter(X.values())).device if isinstance(X, dict) else X.device


def validate_network(network: EmbeddingNetwork, X: Tensor, n_components: int | None) -> int:
    """Run a network on a small batch and check its output.

    Parameters
    ----------
    network : EmbeddingNetwork
        Network to check. It is in training mode afterwards.
    X : Tensor of shape (B, ...)
        Batch in any layout that the network takes.
    n_components : int or None
        Required number of output features. None accepts any.

    Returns
    -------
    n_components : int
        Number of output features.

    Raises
    ------
    InvalidParameterError
        If the output of the backbone is not a finite floating point tensor of shape
        (B, n_components), no weights are trainable, or the network does not accept the output
        of ``augment``. The message names the parameter of the embedder: 'module' or 'augment'.
    """
    with torch.no_grad():
        batch = network.eval().to_channels_first(X)
        with explained_errors(network, batch):
            output: Any = network.forward_backbone(batch)
        if network.augment is not None:
            _validate_augment(network, network.augment, batch)
    network.train()
    if not any(weights.requires_grad for weights in network.parameters()):
        raise InvalidParameterError(
            "The 'module' parameter must have weights to train. Got a network without weights, or "
            "whose weights all have requires_grad=False."
        )
    got, n_samples = repr(type(output)), len(next(iter(X.values())) if isinstance(X, dict) else X)
    if isinstance(output, Tensor):
        is_batch = output.is_floating_point() and output.ndim == 2 and len(output) == n_samples
        is_finite = bool(output.isfinite().all())
        if is_batch and is_finite and n_components in (None, output.shape[1]):
            return output.shape[1]
        got = f"{output.dtype} of shape {tuple(output.shape)}"
        if is_batch and not is_finite:
            got += " with NaN or infinity in it"
        elif is_batch:
            got += " (n_components=None accepts any width)"
    raise InvalidParameterError(
        f"The 'module' parameter must map a batch of shape {_shape_of(batch)} to a finite "
        f"floating point tensor of shape ({n_samples}, {n_components or 'n_components'}). Got "
        f"{got} instead."
    )


@contextmanager
def explained_errors(network: EmbeddingNetwork, X: Any) -> Iterator[None]:
    """Explain the errors that torch raises if a network does not accept the type of samples.

    Raises
    ------
    InvalidParameterError
        If the network has received ids that it does not accept, or no ids where it requires them.
    """
    try:
        yield
    except (IndexError, RuntimeError) as error:
        tables = [layer for layer in network.modules() if isinstance(layer, EMBEDDINGS)]
        n_ids = max((table.num_embeddings for table in tables), default=0)
        parts = X.values() if isinstance(X, dict) else [X]
        ids = [
            end for part in parts if "int64" in str(part.dtype) for end in (part.min(), part.max())
        ]
        if network.keeps_integers and tables and not 0 <= min(ids) <= max(ids) < n_ids:
            reason = f"X holds ids from {min(ids)} to {max(ids)}, and num_embeddings={n_ids}."
        elif "long" not in str(error).lower():  # torch's name of int64
            raise
        elif network.keeps_integers:
            reason = (
                "it receives int64, because X holds integers and standardize=False. If they are "
                "quantities, pass X.astype(np.float32)."
            )
        elif tables:
            reason = (
                f"{type(tables[0]).__name__} requires ids. Got floating point numbers: pass "
                "standardize=False and an X of integers other than uint8, which are pixels."
            )
        else:
            raise
        raise InvalidParameterError(
            f"The 'module' parameter, {type(network.backbone).__name__}, does not accept X: "
            f"{reason} torch raised: {error}"
        ) from error


def _validate_augment(
    network: EmbeddingNetwork, augment: Callable[[Tensor], Any], batch: Tensor
) -> None:
    """Raise if the network does not accept an augmented batch."""
    cause: Exception | None = None
    if isinstance(batch, dict):
        augmented: Any = augment({name: part.clone() for name, part in batch.items()})
        got, is_valid = repr(augmented), isinstance(augmented, dict)
    else:
        augmented = augment(batch.clone())
        got, is_valid = repr(type(augmented)), isinstance(augmented, Tensor)
    if is_valid:
        got = f"a batch of shape {_shape_of(augmented)}"
        if isinstance(augmented, Tensor):
            got = f"{augmented.dtype} of shape {tuple(augmented.shape)}"
            is_valid = len(augmented) == len(batch) and bool(augmented.float().isfinite().all())
        try:
            network.forward_backbone(augmented)
        except (KeyError, RuntimeError, ValueError) as error:  # The shape or a key is wrong.
            is_valid, cause = False, error
        if is_valid:
            return
    raise InvalidParameterError(
        f"The 'augment' parameter must map a batch of shape {_shape_of(batch)} to a finite "
        f"tensor that the network accepts. Got {got} instead."
    ) from cause


def _shape_of(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: tuple(part.shape) for name, part in batch.items()}
    return tuple(batch.shape)
