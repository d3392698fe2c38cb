from sktriplet.exceptions import InvalidParameterError


def test_invalid_parameters_are_caught_as_either():
    assert issubclass(InvalidParameterError, ValueError)
    assert issubclass(InvalidParameterError, TypeError)
