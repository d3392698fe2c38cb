"""Errors and warnings that a user may want to catch by name."""


class InvalidParameterError(ValueError, TypeError):
    """A parameter of an estimator has a value or a type that it cannot have."""


class DivergenceError(FloatingPointError):
    """Training has left the finite numbers, and was ended."""


class CollapseWarning(UserWarning):
    """The network maps all rows to nearly the same point."""


class MemorizationWarning(UserWarning):
    """Training rows are told apart perfectly, and held-out rows are not."""


class OtherVersionWarning(UserWarning):
    """A fitted estimator was saved by another version of sktriplet."""


class UnreadableImageWarning(UserWarning):
    """Some image files could not be read.

    Attributes
    ----------
    reasons : dict of str to str
        Path of each of them, to why.
    """

    def __init__(self, message: str, reasons: dict[str, str] | None = None):
        super().__init__(message)
        self.reasons = reasons or {}
