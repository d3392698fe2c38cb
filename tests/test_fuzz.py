import numpy as np
import pytest
from fuzz import check, random_case
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_fit_is_sane_or_refused(seed):
    check(seed)


def test_most_cases_are_no_refusals():
    assert np.mean([check(seed) for seed in range(8)]) < 0.8


def test_a_wrong_transform_is_noticed(monkeypatch):
    seed = next(seed for seed in range(99) if not check(seed))
    monkeypatch.setattr(type(random_case(seed)[0]), "transform", lambda self, X: np.zeros((1, 1)))
    with pytest.raises(AssertionError):
        check(seed)
