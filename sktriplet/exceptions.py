"""Errors and warnings that a user may want to catch by name."""


class InvalidParameterError(ValueError, TypeError):
    """A parameter of an estimator has a value or a type that it cannot have."""


class CollapseWarning(UserWarning):
    """The network maps all rows to nearly the same point."""
