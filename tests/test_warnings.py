import pytest

from sktriplet._warnings import warn_user


def test_points_at_the_caller():
    with pytest.warns(UserWarning, match="message") as record:
        warn_user("message", UserWarning)
    assert record[0].filename == __file__
