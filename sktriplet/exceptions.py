"""Errors and warnings that users may want to catch by name."""

from sklearn.utils._param_validation import InvalidParameterError

__all__ = [
    "AmbiguousLabelWarning",
    "CollapseWarning",
    "DivergenceError",
    "InputRangeWarning",
    "InvalidParameterError",
    "LargeNetworkWarning",
    "OverfittingWarning",
    "SkippedChunkWarning",
    "SuspiciousFeatureWarning",
    "ThumbnailWarning",
    "UnknownCategoryWarning",
    "UnreadableImageWarning",
]


class AmbiguousLabelWarning(UserWarning):
    """A label that scikit-learn uses for unlabeled samples, -1, is taken as a class."""


class DivergenceError(FloatingPointError):
    """Training was stopped because the loss or the embeddings became NaN or infinite."""


class CollapseWarning(UserWarning):
    """The network maps all samples to nearly the same embedding."""


class InputRangeWarning(UserWarning):
    """Images or sequences are divided by a constant that those in fit were not, or vice versa."""


class LargeNetworkWarning(UserWarning):
    """A table has so many features that most of the time is spent on weights of rare ones."""


class OverfittingWarning(UserWarning):
    """Training samples are retrieved almost perfectly, and held-out samples are not."""


class SkippedChunkWarning(UserWarning):
    """A call of `partial_fit` made no training step, because its chunk has no triplets."""


class SuspiciousFeatureWarning(UserWarning):
    """A column of text looks like numbers, dates, or identifiers, but is encoded as categories."""


class ThumbnailWarning(UserWarning):
    """Thumbnails on an interactive page are smaller or fewer than usual, to limit its size."""


class UnknownCategoryWarning(UserWarning):
    """Training continues on samples of which many are in categories without a column.

    The columns of the network are determined by the first fit, or the first chunk of `partial_fit`.
    """


class UnreadableImageWarning(UserWarning):
    """Some image files could not be read.

    Parameters
    ----------
    message : str
        Text of the warning.
    reasons : dict of str to str, default=None
        Reason for each path.

    Attributes
    ----------
    reasons : dict of str to str
        Reason for each path.
    """

    def __init__(self, message: str, reasons: dict[str, str] | None = None):
        super().__init__(message)
        self.reasons = reasons or {}
