"""Warnings about a user's data, which point at the user's code."""

import sys
import warnings

# Packages whose frames are skipped.
INTERNAL_PACKAGES = ("sktriplet", "sklearn", "joblib")


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning that points at the user's code."""
    frame, level = sys._getframe(), 1
    while (
        frame.f_back is not None
        and frame.f_globals.get("__name__", "").partition(".")[0] in INTERNAL_PACKAGES
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
