"""What may go in: one table of parameter constraints, and the checks of X, y and nets."""

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import prod
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import nn

from sktriplet.augmentation import AUGMENTATIONS
from sktriplet.criterion import MINING_STRATEGIES
from sktriplet.distances import DISTANCES
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import LOSSES
from sktriplet.net import TripletNet


class Constraint(Protocol):
    """A set of allowed values whose ``str`` completes "must be ..."."""

    def __contains__(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Number:
    """A finite number of one kind, from a bound on and below another; never a bool."""

    kind: Any
    low: float
    includes_low: bool = True
    high: float = np.inf

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, self.kind) or isinstance(value, bool):
            return False
        return bool(self.low < value < self.high or (self.includes_low and value == self.low))

    def __str__(self) -> str:
        noun = "an integer" if self.kind is Integral else "a finite number"
        low = f"{noun} {'>=' if self.includes_low else '>'} {self.low}"
        return low if self.high == np.inf else f"{low} and < {self.high}"


@dataclass(frozen=True)
class OneOf:
    """One of a few values, usually names."""

    options: Collection[Any]

    def __contains__(self, value: Any) -> bool:
        return any(type(value) is type(option) and value == option for option in self.options)

    def __str__(self) -> str:
        return " or ".join(map(repr, self.options))


@dataclass(frozen=True)
class Instance:
    """An object of a class."""

    kind: Any
    description: str

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, self.kind)

    def __str__(self) -> str:
        return self.description


@dataclass(frozen=True)
class SequenceOf:
    """A list or tuple whose elements all meet a constraint, of some length or of one."""

    element: Constraint
    length: int | None = None

    def __contains__(self, value: Any) -> bool:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and len(value) == (self.length or len(value))
            and all(element in self.element for element in value)
        )

    def __str__(self) -> str:
        of_length = f" of {self.length}" if self.length else ""
        return f"a list or tuple{of_length}, each element {self.element}"


# How many channels an image has where nobody says: grey, colour, colour and opacity.
CHANNELS = (1, 3, 4)

BOOLEAN = Instance((bool, np.bool_), "True or False")
CALLABLE = Instance(Callable, "a callable")
NONE = OneOf([None])

CONSTRAINTS: dict[str, list[Constraint]] = {
    "n_components": [Number(Integral, 1), NONE],
    "margin": [Number(Real, 0, includes_low=False)],
    "mining": [OneOf(MINING_STRATEGIES), CALLABLE],
    "loss": [OneOf(LOSSES), CALLABLE],
    "metric": [OneOf(DISTANCES), CALLABLE],
    "normalize": [BOOLEAN],
    "module": [OneOf(["auto"]), Instance(nn.Module, "a torch.nn.Module"), CALLABLE],
    "hidden_layer_sizes": [SequenceOf(Number(Integral, 1))],
    "input_shape": [NONE, SequenceOf(Number(Integral, 1), length=3)],
    "augment": [NONE, OneOf(AUGMENTATIONS), CALLABLE],
    "standardize": [BOOLEAN],
    "batch_size": [Number(Integral, 3)],
    "samples_per_class": [Number(Integral, 2)],
    "max_epochs": [Number(Integral, 1)],
    "lr": [Number(Real, 0, includes_low=False)],
    "weight_decay": [Number(Real, 0)],
    "early_stopping": [BOOLEAN],
    "validation_fraction": [Number(Real, 0, includes_low=False, high=1)],
    "n_iter_no_change": [Number(Integral, 1)],
    "tol": [Number(Real, 0)],
    "precision": [OneOf(["float32", "bfloat16"])],
    "warm_start": [BOOLEAN],
    "random_state": [
        NONE,
        Number(Integral, 0),
        Instance(np.random.RandomState, "a numpy.random.RandomState"),
    ],
    "verbose": [BOOLEAN, Number(Integral, 0)],
    "device": [Instance((str, torch.device), "'auto', or a device as torch names it")],
    "net": [NONE, Instance(TripletNet, "a sktriplet.net.TripletNet")],
}


def validate_parameters(estimator: Any) -> None:
    """Check every parameter of an estimator against `CONSTRAINTS`.

    Raises
    ------
    InvalidParameterError
        Naming the first parameter that is wrong, what it was and what it may be.
    """
    for name, value in estimator.get_params(deep=False).items():
        constraints = CONSTRAINTS[name]
        if not any(value in constraint for constraint in constraints):
            raise InvalidParameterError(
                f"The {name!r} parameter of {type(estimator).__name__} must be "
                f"{', or '.join(map(str, constraints))}. Got {value!r} instead."
            )


def validate_device(device: str | torch.device) -> torch.device:
    """Resolve ``"auto"`` to CUDA, then MPS, then CPU, and check that a device is there.

    Raises
    ------
    InvalidParameterError
        If torch does not know the device, or this machine does not have it.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidParameterError(
            f"The 'device' parameter must be 'auto', or a device that torch has on this "
            f"machine, such as 'cpu'. Got {device!r} instead: {error}"
        ) from error
    return torch.device(device)


def validate_training_data(
    estimator: Any, X: Any, y: Any, *, reset: bool = True
) -> tuple[NDArray, NDArray[np.int64], dict[str, Any]]:
    """Check X and y, and number the classes. The estimator is left as it is.

    Parameters
    ----------
    estimator : TripletEmbedder

    X, y : array-like

    reset : bool, default=True
        Whether X says what rows are like. If not, they must be as in an earlier fit.

    Returns
    -------
    X : ndarray of shape (n_rows, ...)
        float32, or uint8 where these are images of that type.
    labels : ndarray of shape (n_rows,), int64
        Positions in ``classes_``.
    seen : dict
        Attributes that the estimator has to have after training: ``classes_``,
        ``n_features_in_``, ``input_shape_`` and, if there are any, ``feature_names_in_``.

    Raises
    ------
    ValueError
        If X is no finite table and no images, y does not hold class labels, or no
        triplet exists.
    """
    probe = copy.copy(estimator)
    holds_images = _n_dims(X) > 2 or estimator.input_shape is not None
    if not reset and holds_images is not (len(estimator.input_shape_) > 1):
        _raise_wrong_shape(estimator, np.shape(X))
    X, y = validate_data(
        probe,
        X,
        y,
        dtype=[np.float32, np.uint8] if holds_images else np.float32,
        ensure_2d=not holds_images,
        allow_nd=holds_images,
        ensure_min_samples=2,
        reset=reset,
    )
    input_shape = X.shape[1:]
    if holds_images:
        input_shape = images_shape(X.shape, estimator.input_shape)
        if not reset and input_shape != estimator.input_shape_:
            _raise_wrong_shape(estimator, X.shape)
    classes, labels = _numbered_classes(y, type(estimator).__name__)
    seen = {
        "classes_": classes,
        "input_shape_": input_shape,
        "n_features_in_": prod(input_shape),
    }
    if hasattr(probe, "feature_names_in_"):
        seen["feature_names_in_"] = probe.feature_names_in_
    return X, labels, seen


def validate_rows(estimator: Any, X: Any) -> NDArray:
    """Check rows for a fitted estimator.

    Raises
    ------
    ValueError
        If X is not a finite table of the width seen in fit, or no images of the shape.
    """
    if len(estimator.input_shape_) == 1:
        return validate_data(estimator, X, dtype=np.float32, reset=False)
    X = validate_data(
        estimator, X, dtype=[np.float32, np.uint8], ensure_2d=False, allow_nd=True, reset=False
    )
    is_flat = X.ndim < 3 and estimator.input_shape is None
    if is_flat or X.shape[1:] not in _layouts(estimator.input_shape_):
        _raise_wrong_shape(estimator, X.shape)
    return X


def images_shape(
    shape: tuple[int, ...], input_shape: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return channels, height and width of the images in an array.

    Parameters
    ----------
    shape : tuple of int
        Of the array: ``(n, h, w)``, or with channels first or last.

    input_shape : sequence of three int, default=None
        ``(channels, height, width)``, if it is known. Images may then be flat rows too.

    Raises
    ------
    ValueError
        If they are not, or cannot be told from the shape.

    Examples
    --------
    >>> from sktriplet.validation import images_shape
    >>> images_shape((60, 28, 28)), images_shape((60, 32, 32, 3))
    ((1, 28, 28), (3, 32, 32))
    """
    sizes = tuple(shape[1:])
    if input_shape is not None:
        if sizes not in _layouts(input_shape):
            raise ValueError(
                f"X must hold images of shape {_one_of(_layouts(input_shape))}, since "
                f"input_shape={input_shape}. Got X of shape {tuple(shape)}."
            )
        return tuple(input_shape)
    if len(sizes) == 2:
        return (1, *sizes)
    if len(sizes) != 3:
        raise ValueError(
            "X must be a table of shape (n, features), or images of shape (n, height, width), "
            "(n, channels, height, width) or (n, height, width, channels). Got X of shape "
            f"{tuple(shape)}."
        )
    is_first, is_last = sizes[0] in CHANNELS, sizes[2] in CHANNELS
    if is_first == is_last:
        raise ValueError(
            f"X of shape {tuple(shape)} could hold images with channels first or last. Pass "
            "input_shape=(channels, height, width)."
        )
    return sizes if is_first else (sizes[2], sizes[0], sizes[1])


def _layouts(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shapes in which an image of shape (C, H, W) may come."""
    channels, height, width = shape
    layouts = [(channels, height, width), (height, width, channels), (prod(shape),)]
    return [*layouts, (height, width)] if channels == 1 else layouts


def _one_of(shapes: Collection[tuple[int, ...]]) -> str:
    return " or ".join(map(str, dict.fromkeys(shapes)))


def _n_dims(X: Any) -> int:
    if hasattr(X, "ndim"):
        return X.ndim
    return 1 + np.ndim(X[0]) if isinstance(X, Sequence) and len(X) else 2


def _raise_wrong_shape(estimator: Any, shape: tuple[int, ...]) -> None:
    expected = estimator.input_shape_
    if len(expected) == 1:
        expecting = f"a table of {expected[0]} features"
    else:
        expecting = f"images of shape {_one_of(_layouts(expected))}"
    raise ValueError(
        f"X has shape {tuple(shape)}, but {type(estimator).__name__} is expecting {expecting}, as "
        "in fit."
    )


def _numbered_classes(y: NDArray, owner: str) -> tuple[NDArray, NDArray[np.int64]]:
    try:
        check_classification_targets(y)
        classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in y})
        raise ValueError(
            f"{owner} requires the labels in y to be of one kind, none of them missing. Got "
            f"{', '.join(kinds)}."
        ) from error
    if len(classes) < 2:
        raise ValueError(
            f"{owner} requires y to hold at least 2 classes. Got 1 class: {classes.tolist()}."
        )
    if counts.max() < 2:
        raise ValueError(
            f"{owner} requires a class with at least 2 rows in y, so that there is a pair to "
            f"learn from. Got {len(classes)} classes of 1 row each."
        )
    return classes, labels.astype(np.int64, copy=False)


def merged_classes(known: NDArray, new: NDArray) -> NDArray:
    """Return the classes of both arrays, in order.

    Raises
    ------
    ValueError
        If one holds numbers and the other strings, say.
    """
    try:
        if known.dtype.kind != "O" and (known.dtype.kind in "US") != (new.dtype.kind in "US"):
            raise TypeError
        return np.union1d(known, new)
    except TypeError as error:
        raise ValueError(
            "The labels in y must be of the kind that was seen before. Got "
            f"{new[:3].tolist()}, ... after {known[:3].tolist()}, ..."
        ) from error


def validate_module(network: nn.Module, rows: torch.Tensor, n_components: int | None) -> int:
    """Pass a few rows through the network and return the width of what comes out.

    Raises
    ------
    InvalidParameterError
        If the output is not a floating point tensor of shape (n_rows, n_components).
    """
    with torch.no_grad():
        output = network.eval()(rows)
    network.train()
    if isinstance(output, torch.Tensor):
        fits = output.is_floating_point() and output.ndim == 2 and len(output) == len(rows)
        if fits and n_components in (None, output.shape[1]):
            return output.shape[1]
        got = f"{output.dtype} of shape {tuple(output.shape)}"
    else:
        got = repr(type(output))
    raise InvalidParameterError(
        f"The 'module' parameter must map rows of shape {tuple(rows.shape)} to a floating point "
        f"tensor of shape ({len(rows)}, {n_components or 'n_components'}). Got {got} instead."
    )
