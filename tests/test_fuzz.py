import numpy as np
import pytest
from fuzz import check, check_recognition, random_case
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_case(seed):
    check(seed)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_recognition(seed):
    check_recognition(seed)


@pytest.mark.parametrize("check_case", [check, check_recognition])
def test_most_cases_are_accepted(check_case):
    assert np.mean([check_case(seed) for seed in range(8)]) < 0.8


def test_wrong_transform_is_detected(monkeypatch):
    seed = next(seed for seed in range(99) if not check(seed))
    monkeypatch.setattr(type(random_case(seed)[0]), "transform", lambda self, X: np.zeros((1, 1)))
    with pytest.raises(AssertionError):
        check(seed)
