from sktriplet.exceptions import CollapseWarning, InvalidParameterError


def test_invalid_parameters_are_caught_as_either():
    assert issubclass(InvalidParameterError, ValueError)
    assert issubclass(InvalidParameterError, TypeError)


def test_collapse_is_a_user_warning():
    assert issubclass(CollapseWarning, UserWarning)
