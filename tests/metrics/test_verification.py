"""Error rates are compared with their definitions, computed threshold by threshold."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import det_curve, make_scorer
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.preprocessing import FunctionTransformer

from sktriplet import PairVerifier
from sktriplet.exceptions import InvalidParameterError
from sktriplet.metrics import equal_error_rate_score, false_non_match_rate_score

SCORES = [equal_error_rate_score, false_non_match_rate_score]
every_score = pytest.mark.parametrize("score", SCORES)

# Few values, for many ties. Both types of pair occur.
pairs = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=30).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def rates_by_definition(pairs):
    """Return exact (FMR, FNMR) at every threshold, from low to high."""
    genuine = [score for label, score in pairs if label]
    impostors = [score for label, score in pairs if not label]
    thresholds = [*sorted({score for _, score in pairs}), np.inf]
    return [
        (
            Fraction(sum(score >= t for score in impostors), len(impostors)),
            Fraction(sum(score < t for score in genuine), len(genuine)),
        )
        for t in thresholds
    ]


def equal_error_rate_by_definition(pairs):
    """Intersect each segment of the curve with the diagonal."""
    rates = rates_by_definition(pairs)
    for (fmr, fnmr), (next_fmr, next_fnmr) in pairwise(rates):
        before, after = fmr - fnmr, next_fmr - next_fnmr
        if before >= 0 >= after:
            return fmr + (next_fmr - fmr) * before / (before - after)
    raise AssertionError


@settings(max_examples=1000)
@given(pairs=pairs, max_fmr=st.sampled_from([0, 0.1, 0.25, 1 / 3, 0.5, 0.99]))
def test_definition(pairs, max_fmr):
    labels, scores = zip(*pairs, strict=True)
    expected = float(equal_error_rate_by_definition(pairs))
    assert equal_error_rate_score(labels, scores) == pytest.approx(expected, abs=1e-14)
    permitted = [fnmr for fmr, fnmr in rates_by_definition(pairs) if fmr <= max_fmr + 1e-12]
    found = false_non_match_rate_score(labels, scores, max_fmr=max_fmr)
    assert found == float(min(permitted))


@pytest.mark.parametrize(
    ("genuine", "impostors", "expected"),
    [
        ([3, 4], [1, 2], 0),
        ([1, 2], [3, 4], 1),
        ([1, 1], [1, 1, 1], 1 / 2),  # all tied
        ([1, 3], [2, 0], 1 / 2),
        ([2, 3, 4, 1], [0, 0, 0, 2], 1 / 4),  # one genuine pair ties with an impostor
        # Rates (1/2, 0) at 2, and (0, 1/3) at 3: the segment meets the diagonal at 1/5.
        ([2, 3, 3], [1, 2], 1 / 5),
    ],
)
def test_equal_error_rate_by_hand(genuine, impostors, expected):
    labels = [1] * len(genuine) + [0] * len(impostors)
    scores = np.array([*genuine, *impostors], dtype=float)
    assert equal_error_rate_score(labels, scores) == pytest.approx(expected, abs=1e-15)
    # Swapping both types, or the sign of the labels, changes nothing.
    assert equal_error_rate_score(1 - np.array(labels), -scores) == pytest.approx(expected)
    assert equal_error_rate_score(2 * np.array(labels) - 1, scores) == pytest.approx(expected)


def test_false_non_match_rate_by_hand():
    """The impostor at 8 may be accepted, those at 6 are accepted together or not at all."""
    labels = [1] * 5 + [0] * 4
    scores = [9, 7, 6, 6, 1, 8, 6, 6, 2]
    found = [
        false_non_match_rate_score(labels, scores, max_fmr=max_fmr)
        for max_fmr in (0, 0.24, 0.25, 0.5, 0.74, 0.75, 0.99)
    ]
    assert found == [4 / 5, 4 / 5, 3 / 5, 3 / 5, 3 / 5, 1 / 5, 1 / 5]


def test_agrees_with_det_curve(rng):
    labels, scores = rng.integers(2, size=500), rng.normal(size=500).round(1)
    scores += labels
    fmr, fnmr, _ = det_curve(labels, scores)
    for max_fmr in (0.05, 0.2):
        expected = fnmr[fmr <= max_fmr].min()
        found = false_non_match_rate_score(labels, scores, max_fmr=max_fmr)
        assert found == pytest.approx(expected)
    nearest = np.argmin(np.abs(fmr - fnmr))
    error = equal_error_rate_score(labels, scores)
    assert min(fmr[nearest], fnmr[nearest]) <= error <= max(fmr[nearest], fnmr[nearest])


def test_false_non_match_rate_ignores_rounding_errors():
    labels, scores = np.arange(200) < 100, np.r_[100 - np.arange(100), 99.5 - np.arange(100)]
    for count in range(100):
        found = false_non_match_rate_score(labels, scores, max_fmr=count / 100)
        assert found == pytest.approx(1 - (count + 1) / 100)


def scorers():
    return {
        score.__name__: make_scorer(
            score, greater_is_better=False, response_method="decision_function"
        )
        for score in SCORES
    }


def test_scorers_in_cross_validation(rng):
    """A classifier of differences, cross-validated by sample."""
    X, y = load_iris(return_X_y=True)
    left, right = rng.integers(150, size=(2, 400))
    found = cross_validate(
        LogisticRegression(),
        np.abs(X[left] - X[right]),
        y[left] == y[right],
        groups=left,
        cv=GroupKFold(4),
        scoring=scorers(),
        error_score="raise",
    )
    for name in scorers():
        assert ((found[f"test_{name}"] < 0) & (found[f"test_{name}"] > -1)).all()


def test_scorers_of_verifier(iris):
    X, y = iris
    verifier = PairVerifier(FunctionTransformer()).fit(X, y)
    left, right = np.triu_indices(150, k=1)
    pairs, same = np.stack([X[left], X[right]], axis=1), y[left] == y[right]
    decisions = verifier.decision_function(pairs)
    for score in SCORES:
        assert scorers()[score.__name__](verifier, pairs, same) == -score(same, decisions)


@every_score
@pytest.mark.parametrize(("y", "reason"), [([1, 1], "the same class"), ([0, 0], "different clas")])
def test_undefined(score, y, reason):
    message = f"rate is undefined and set to NaN: all pairs are of {reason}"
    with pytest.warns(UndefinedMetricWarning, match=message) as caught:
        assert np.isnan(score(y, [0.1, 0.2]))
    assert caught[0].filename == __file__


@every_score
@pytest.mark.parametrize(
    ("y_true", "y_score", "match"),
    [
        ([0, 1, 2], [1, 2, 3], r"^y_true must .* Got \[0, 1, 2\]"),
        (["same", "other"], [1, 2], "^y_true must .* Got"),
        ([-1, 0, 1], [1, 2, 3], r"^y_true must .* Got \[-1, 0, 1\]"),
        ([0, np.nan], [1, 2], "^y_true must .* Got"),
        ([0, 1], [1, np.nan], "y_score contains NaN"),
        ([0, 1], [1, np.inf], "y_score contains infinity"),
        ([0, 1], [1, 2, 3], r"inconsistent numbers of samples: \[2, 3\]"),
        ([], [], r"0 sample\(s\)"),
    ],
    ids=str,
)
def test_invalid(score, y_true, y_score, match):
    with pytest.raises(ValueError, match=match):
        score(y_true, y_score)


@pytest.mark.parametrize("max_fmr", [-0.1, 1, np.nan, True, "0.1", None])
def test_invalid_max_fmr(max_fmr):
    with pytest.raises(InvalidParameterError, match=rf"'max_fmr' .* Got {max_fmr!r}"):
        false_non_match_rate_score([0, 1], [1, 2], max_fmr=max_fmr)
