"""The layouts in which samples may come: tables, sequences, and images.

A new layout is a subclass of `InputLayout`, an entry in `LAYOUTS`, and a default network in
``_build.py``.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from torch import nn

from sktriplet._parameters import Interval, SequenceOf
from sktriplet.networks._embedding_network import ChannelsFirst, OneHot

# Numbers of channels that are recognized without input_shape: gray, RGB, RGBA.
N_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class InputLayout:
    """How the samples in an array are arranged."""

    shape: tuple[int, ...]  # of a sample as the network receives it

    dtype: ClassVar[Any]
    is_table: ClassVar[bool] = False
    has_named_augmentations: ClassVar[bool] = False

    @classmethod
    def from_array(cls, X: NDArray | csr_array, input_shape: Sequence[int] | None) -> Self:
        """Return the layout of training samples, given the estimator's ``input_shape``."""
        return cls(X.shape[1:])

    @property
    def accepted_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of a sample in the arrays that users pass."""
        return [self.shape]

    @property
    def statistics_shape(self) -> tuple[int, ...]:
        """Shape in which statistics per feature or channel broadcast with a sample."""
        return (-1,) + (1,) * (len(self.shape) - 1)

    def converter(self, *, contiguous: bool) -> nn.Module | None:
        """Return a module that converts batches to `shape`; None if that is not necessary."""
        return None

    def to_rows(self, X: NDArray) -> NDArray:
        """Return a table with a column per feature or channel, to compute statistics."""
        return X

    def check_dense(self, X: Any) -> None:
        """Raise an error if the samples are sparse."""
        if issparse(X):
            raise TypeError(
                f"X must be dense, because its samples are {self}. Got a sparse matrix of shape "
                f"{X.shape}: pass X.toarray()."
            )


@dataclass(frozen=True)
class TableLayout(InputLayout):
    """Rows of features, ``(n_features,)``, which stay in their own precision at first.

    The last features may be one-hot columns. Samples have their indices instead; see `OneHot`.
    """

    n_one_hot: int = 0
    n_binary: int = 0  # one-hot columns, and indicators of missing values before them

    dtype = "numeric"
    is_table = True

    @classmethod
    def from_encoder(cls, encoder: Any) -> Self:
        """Return the layout of the tables that a fitted `TableEncoder` encodes."""
        n_outputs = encoder.n_outputs
        return cls((n_outputs,), n_outputs - encoder.n_plain, n_outputs - encoder.n_numbers)

    def converter(self, *, contiguous: bool) -> nn.Module | None:
        """Return a module that expands one-hot columns, if there are any."""
        if not self.n_one_hot:
            return None
        n_outputs = self.shape[0]
        return OneHot(n_outputs - self.n_one_hot, n_outputs, contiguous=contiguous)

    def to_rows(self, X: NDArray) -> NDArray:
        """Return the samples with one-hot columns."""
        one_hot = self.converter(contiguous=True)
        return X if one_hot is None else one_hot(torch.from_numpy(X)).numpy()

    def __str__(self) -> str:
        return f"a table of {self.shape[0]} features"


@dataclass(frozen=True)
class ChannelLayout(InputLayout):
    """Samples with channels, ``(channels, ...)``, that may have channels last or be flat."""

    accepts_flat: bool = True

    dtype = (np.float32, np.uint8)

    @classmethod
    def from_array(cls, X: NDArray | csr_array, input_shape: Sequence[int] | None) -> Self:
        """Check X against `input_shape`."""
        layout = cls(tuple(map(int, input_shape or ())))
        layout.check_dense(X)
        if X.shape[1:] not in layout.accepted_shapes:
            raise ValueError(
                f"X must hold {layout}, because input_shape={input_shape}. Got X of shape "
                f"{X.shape}."
            )
        return layout

    @property
    def accepted_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of a sample in the arrays that users pass."""
        channels, *sides = self.shape
        shapes = [self.shape, (*sides, channels)]
        if self.accepts_flat:
            shapes.append((prod(self.shape),))
        if channels == 1:
            shapes.append(tuple(sides))
        return shapes

    def converter(self, *, contiguous: bool) -> nn.Module:
        """Return a module that puts channels first."""
        return ChannelsFirst(self.shape, contiguous=contiguous)

    def to_rows(self, X: NDArray) -> NDArray:
        """Return a row per pixel or time step."""
        if X.ndim <= len(self.shape) or X.shape[1:] == self.shape:
            X = np.moveaxis(X.reshape(len(X), *self.shape), 1, -1)
        return X.reshape(-1, self.shape[0])


class SequenceLayout(ChannelLayout):
    """Sequences, ``(channels, length)``."""

    def __str__(self) -> str:
        return f"sequences of shape {_join_shapes(self.accepted_shapes)}"


class ImageLayout(ChannelLayout):
    """Images, ``(channels, height, width)``."""

    has_named_augmentations = True

    @classmethod
    def from_array(cls, X: NDArray | csr_array, input_shape: Sequence[int] | None) -> Self:
        """Infer the layout from the shape of X, or check X against `input_shape`."""
        if input_shape is None:
            return cls(_infer_image_shape(X.shape), accepts_flat=False)
        return super().from_array(X, input_shape)

    def __str__(self) -> str:
        return f"images of shape {_join_shapes(self.accepted_shapes)}"


# By the number of dimensions of a sample as the network receives it.
LAYOUTS: dict[int, type[InputLayout]] = {
    1: TableLayout,
    2: SequenceLayout,
    3: ImageLayout,
}


# Constraints of input_shape.
INPUT_SHAPES = [
    SequenceOf(Interval(Integral, 1, None, closed="left"), length=length)
    for length in LAYOUTS
    if length > 1
]


def layout_type_of(input_shape: Sequence[int] | None, X: Any) -> type[InputLayout]:
    """Return the type of the layout of training samples."""
    if input_shape is not None:
        return LAYOUTS[len(input_shape)]
    return TableLayout if _n_dims(X) <= 2 else ImageLayout


def _infer_image_shape(array_shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = tuple(array_shape[1:])
    if len(sizes) == 2:
        return (1, *sizes)
    if len(sizes) != 3:
        raise ValueError(
            "X must be a table of shape (n_samples, n_features), or images of shape "
            "(n_samples, height, width), (n_samples, channels, height, width) or (n_samples, "
            f"height, width, channels). Got X of shape {tuple(array_shape)}."
        )
    is_first, is_last = sizes[0] in N_CHANNELS, sizes[2] in N_CHANNELS
    if is_first == is_last:
        raise ValueError(
            f"X of shape {tuple(array_shape)} may hold images with channels first or last. "
            "Pass input_shape=(channels, height, width)."
        )
    return sizes if is_first else (sizes[2], sizes[0], sizes[1])


def _join_shapes(shapes: Collection[tuple[int, ...]]) -> str:
    return " or ".join(map(str, dict.fromkeys(shapes)))


def _n_dims(X: Any) -> int:
    if hasattr(X, "ndim"):
        return X.ndim
    return 1 + np.ndim(X[0]) if isinstance(X, Sequence) and len(X) else 2
