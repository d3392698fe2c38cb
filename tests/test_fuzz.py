import numpy as np
import pytest
from fuzz import check, random_case
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_case(seed):
    check(seed)


def test_most_cases_are_accepted():
    assert np.mean([check(seed) for seed in range(8)]) < 0.8


def test_wrong_transform_is_detected(monkeypatch):
    seed = next(seed for seed in range(99) if not check(seed))
    monkeypatch.setattr(type(random_case(seed)[0]), "transform", lambda self, X: np.zeros((1, 1)))
    with pytest.raises(AssertionError):
        check(seed)
