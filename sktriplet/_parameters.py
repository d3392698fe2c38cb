"""What parameters may be: one table of constraints, and the functions that check it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from sktriplet.augmentation import AUGMENTATIONS
from sktriplet.distances import DISTANCES
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import LOSSES
from sktriplet.losses._triplet import MINING_STRATEGIES
from sktriplet.training import TripletNet


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
    "nca_weight": [Number(Real, 0)],
    "normalize": [BOOLEAN],
    "module": [OneOf(["auto"]), Instance(nn.Module, "a torch.nn.Module"), CALLABLE],
    "hidden_layer_sizes": [SequenceOf(Number(Integral, 1))],
    "n_members": [Number(Integral, 1)],
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
        Number(Integral, 0, high=2**32),
        Instance(np.random.RandomState, "a numpy.random.RandomState"),
    ],
    "verbose": [BOOLEAN, Number(Integral, 0)],
    "device": [Instance((str, torch.device), "'auto', or a device as torch names it")],
    "net": [NONE, Instance(TripletNet, "a sktriplet.training.TripletNet")],
    "estimator": [NONE, HasMethods(("fit", "transform"))],
    "target_fpr": [NONE, Number(Real, 0, includes_low=False, high=1)],
    "target_fpir": [Number(Real, 0, includes_low=False, high=1)],
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
        constraints = CONSTRAINTS.get(name)  # a subclass may have more
        if constraints and not any(value in constraint for constraint in constraints):
            raise InvalidParameterError(
                f"The {name!r} parameter of {type(estimator).__name__} must be "
                f"{', or '.join(map(str, constraints))}. Got {value!r} instead."
            )
