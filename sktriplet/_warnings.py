"""Warnings about a user's data, which point at the user's code."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Packages whose frames are skipped.
INTERNAL_PACKAGES = ("sktriplet", "sklearn", "joblib")

# Unlike the filters of the module warnings, it belongs to a thread.
_is_in_fold: ContextVar[bool] = ContextVar("is_in_fold", default=False)


@contextmanager
def fold_without_warnings() -> Iterator[None]:
    """Omit the warnings about the data of a fold: the fit on all samples will issue them."""
    token = _is_in_fold.set(True)
    try:
        yield
    finally:
        _is_in_fold.reset(token)


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning that points at the user's code, except in folds."""
    if _is_in_fold.get():
        return
    frame, level = sys._getframe(), 1
    while (
        frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] in INTERNAL_PACKAGES
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
