"""Parameter constraints, declared on the classes that have the parameters.

Values are validated by scikit-learn, which also determines the wording of the errors.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import _param_validation
from sklearn.utils._param_validation import validate_parameter_constraints


class Interval(_param_validation.Interval):
    """scikit-learn's interval, which does not accept booleans as numbers."""

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)


class SequenceOf(_param_validation.Options):
    """A list, tuple or 1-D array, of a given or any length, whose elements meet a constraint."""

    def __init__(self, element: Any, length: int | None = None):
        super().__init__(tuple, set())  # scikit-learn only accepts subclasses of its constraints
        self.element = element
        self.length = length

    def is_satisfied_by(self, val: Any) -> bool:
        is_array = isinstance(val, np.ndarray) and val.ndim == 1
        return (
            (is_array or (isinstance(val, Sequence) and not isinstance(val, str)))
            and len(val) == (self.length or len(val))
            and all(self.element.is_satisfied_by(element) for element in val)
        )

    def __str__(self) -> str:
        of_length = f" of length {self.length}" if self.length else ""
        return f"a sequence{of_length} whose elements are {self.element}"


def validate_parameters(owner: Any, **values: Any) -> None:
    """Check values against the ``_parameter_constraints`` of their owner's class.

    Raises
    ------
    InvalidParameterError
        If a value is invalid; the message names the parameter, its value and the allowed values.
    """
    validate_parameter_constraints(owner._parameter_constraints, values, type(owner).__name__)
