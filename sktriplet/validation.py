"""What may go in: one table of parameter constraints, and the checks of X, y and nets."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import nn

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
    """A list or tuple whose elements all meet a constraint."""

    element: Constraint

    def __contains__(self, value: Any) -> bool:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and all(element in self.element for element in value)
        )

    def __str__(self) -> str:
        return f"a list or tuple, each element {self.element}"


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
) -> tuple[NDArray[np.float32], NDArray, NDArray[np.int64]]:
    """Check X and y, and number the classes.

    Parameters
    ----------
    estimator : TripletEmbedder

    X, y : array-like

    reset : bool, default=True
        Whether X says how wide rows are. If not, it must be as wide as in an earlier fit.

    Returns
    -------
    X : ndarray of shape (n_rows, n_features), float32
    classes : ndarray of shape (n_classes,)
    labels : ndarray of shape (n_rows,), int64
        Positions in ``classes``.

    Raises
    ------
    ValueError
        If X is not a finite table, y does not hold class labels, or no triplet exists.
    """
    X, y = validate_data(estimator, X, y, dtype=np.float32, ensure_min_samples=2, reset=reset)
    try:
        check_classification_targets(y)
        classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in y})
        raise ValueError(
            f"{type(estimator).__name__} requires the labels in y to be of one kind, none of "
            f"them missing. Got {', '.join(kinds)}."
        ) from error
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} requires y to hold at least 2 classes. Got 1 class: "
            f"{classes.tolist()}."
        )
    if counts.max() < 2:
        raise ValueError(
            f"{type(estimator).__name__} requires a class with at least 2 rows in y, so that "
            f"there is a pair to learn from. Got {len(classes)} classes of 1 row each."
        )
    return X, classes, labels.astype(np.int64, copy=False)


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


def validate_rows(estimator: Any, X: Any) -> NDArray[np.float32]:
    """Check rows for a fitted estimator.

    Raises
    ------
    ValueError
        If X is not a finite table of the width seen in fit.
    """
    return validate_data(estimator, X, dtype=np.float32, reset=False)


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
