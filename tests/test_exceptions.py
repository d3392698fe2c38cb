import pickle

import pytest

from sktriplet import exceptions


@pytest.mark.parametrize(
    "name",
    ["CollapseWarning", "InputRangeWarning", "OverfittingWarning", "UnreadableImageWarning"],
)
def test_warnings_are_user_warnings(name):
    assert issubclass(getattr(exceptions, name), UserWarning)


def test_invalid_parameter_error_bases():
    assert issubclass(exceptions.InvalidParameterError, ValueError)
    assert issubclass(exceptions.InvalidParameterError, TypeError)


def test_divergence_error_bases():
    assert issubclass(exceptions.DivergenceError, FloatingPointError)


def test_unreadable_image_warning_reasons():
    warning = exceptions.UnreadableImageWarning("1 file", {"a/x.png": "truncated"})
    assert str(warning) == "1 file"
    assert warning.reasons == {"a/x.png": "truncated"}
    assert exceptions.UnreadableImageWarning("none").reasons == {}
    assert str(pickle.loads(pickle.dumps(warning))) == "1 file"
