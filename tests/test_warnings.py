import threading
import warnings

import pytest

from sktriplet._warnings import fold_without_warnings, warn_user


def test_points_at_the_caller():
    with pytest.warns(UserWarning, match="bad column") as caught:
        warn_user("bad column", UserWarning)
    assert caught[0].filename == __file__


def test_fold():
    with fold_without_warnings():
        warn_user("bad column", UserWarning)  # warnings are errors
    with pytest.warns(UserWarning, match="bad column"):
        warn_user("bad column", UserWarning)


def test_after_an_error():
    with pytest.raises(RuntimeError), fold_without_warnings():
        raise RuntimeError
    with pytest.warns(UserWarning, match="bad column"):
        warn_user("bad column", UserWarning)


def test_other_threads_warn():
    """And the filters of all threads are as before."""
    filters = list(warnings.filters)
    errors = []

    def work():
        try:
            warn_user("bad column", UserWarning)
        except UserWarning as error:
            errors.append(error)

    with fold_without_warnings():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert warnings.filters == filters
    assert len(errors) == 1
