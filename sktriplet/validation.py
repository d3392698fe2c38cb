"""What may go in: one table of parameter constraints, and the checks of X, y and nets."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_array, column_or_1d
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
    """A finite number of one kind, from a bound on; never a bool."""

    kind: Any
    low: float
    includes_low: bool = True

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, self.kind) or isinstance(value, bool):
            return False
        return bool(self.low < value < np.inf or (self.includes_low and value == self.low))

    def __str__(self) -> str:
        noun = "an integer" if self.kind is Integral else "a finite number"
        return f"{noun} {'>=' if self.includes_low else '>'} {self.low}"


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


@dataclass(frozen=True)
class Fraction:
    """A part of a whole that is neither none nor all of it."""

    def __contains__(self, value: Any) -> bool:
        return value in Number(Real, 0, includes_low=False) and value < 1

    def __str__(self) -> str:
        return "a number > 0 and < 1"


@dataclass(frozen=True)
class HasMethods:
    """An object, no class, that has some methods."""

    names: tuple[str, ...]

    def __contains__(self, value: Any) -> bool:
        return not isinstance(value, type) and all(hasattr(value, name) for name in self.names)

    def __str__(self) -> str:
        return f"an object with the methods {' and '.join(self.names)}"


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
    "random_state": [
        NONE,
        Number(Integral, 0),
        Instance(np.random.RandomState, "a numpy.random.RandomState"),
    ],
    "verbose": [BOOLEAN, Number(Integral, 0)],
    "device": [Instance((str, torch.device), "'auto', or a device as torch names it")],
    "net": [NONE, Instance(TripletNet, "a sktriplet.net.TripletNet")],
    "estimator": [NONE, HasMethods(("fit", "transform"))],
    "target_fpr": [NONE, Fraction()],
    "target_fpir": [Fraction()],
    "unknown_label": [NONE, Instance((str, Real), "a label")],
    "cv": [NONE, Number(Integral, 2), HasMethods(("split",))],
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
    estimator: Any, X: Any, y: Any
) -> tuple[NDArray[np.float32], NDArray, NDArray[np.int64]]:
    """Check X and y, and number the classes.

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
    X, y = validate_data(estimator, X, y, dtype=np.float32, ensure_min_samples=2)
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


def validate_rows(estimator: Any, X: Any) -> NDArray[np.float32]:
    """Check rows for a fitted estimator.

    Raises
    ------
    ValueError
        If X is not a finite table of the width seen in fit.
    """
    return validate_data(estimator, X, dtype=np.float32, reset=False)


def validate_enrolment(
    estimator: Any, X: Any, y: Any, classes: NDArray
) -> tuple[NDArray[np.float32], NDArray]:
    """Check rows and their classes for a fitted estimator that may not know these classes.

    Raises
    ------
    ValueError
        If X does not fit what fit has seen, or y is of another kind than the known classes.
    """
    X, y = validate_data(estimator, X, y, dtype=np.float32, reset=False)
    check_classification_targets(y)
    kinds = ["numbers" if part.dtype.kind in "biuf" else "strings" for part in (classes, y)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"y must be of the kind that fit was given, {kinds[0]} such as {classes[0]!r}. "
            f"Got {kinds[1]} such as {y[0]!r}."
        )
    return X, y


def validate_pairs(estimator: Any, pairs: Any) -> NDArray[np.float32]:
    """Check pairs of rows for a fitted estimator.

    Raises
    ------
    ValueError
        If they are no finite array of shape (n_pairs, 2, n_features).
    """
    pairs = check_array(pairs, dtype=np.float32, ensure_2d=False, allow_nd=True, input_name="pairs")
    expected = (2, estimator.n_features_in_)
    if pairs.shape[1:] != expected:
        raise ValueError(
            f"pairs must be an array of shape (n_pairs, {expected[0]}, {expected[1]}): two rows "
            f"with the features seen in fit. Got shape {pairs.shape}."
        )
    return pairs


def validate_same(y: Any, n_pairs: int) -> NDArray[np.bool_]:
    """Check what says of pairs whether they are the same.

    Raises
    ------
    ValueError
        If there is not one truth value for each pair.
    """
    same = column_or_1d(y)
    if len(same) != n_pairs:
        raise ValueError(f"y must hold a value for each of the {n_pairs} pairs. Got {len(same)}.")
    if not np.isin(same, [0, 1]).all():
        raise ValueError(
            "y must say of each pair whether it is the same, True or False. "
            f"Got {np.unique(same)[:5].tolist()}."
        )
    return same.astype(bool)


def validate_template(net: TripletNet, owned: dict[str, str], owner: str) -> None:
    """Check that a template leaves alone what the estimator around it sets.

    Parameters
    ----------
    net : TripletNet

    owned : dict of str to str
        Parameters of the net, to the parameter of the estimator that sets each.

    owner : str
        Name of the estimator's class.

    Raises
    ------
    InvalidParameterError
        Naming both parameters.
    """
    given = net.get_params(deep=False)
    defaults = TripletNet().get_params(deep=False)
    for theirs, ours in owned.items():
        if theirs in given and (theirs not in defaults or given[theirs] != defaults[theirs]):
            raise InvalidParameterError(
                f"The 'net' parameter sets {theirs}={given[theirs]!r}, which {owner} sets "
                f"itself: leave it out of the net and pass {ours}=... to {owner}."
            )
    if isinstance(net.criterion, nn.Module):
        raise InvalidParameterError(
            f"The 'net' parameter holds a criterion that is already made, "
            f"{net.criterion!r}: pass its class, so that {owner} can set its parameters."
        )


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
