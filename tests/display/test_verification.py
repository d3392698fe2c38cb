import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sktriplet import PairVerifier
from sktriplet.display import VerificationDisplay
from sktriplet.metrics import equal_error_rate_score


@pytest.fixture
def pairs(rng):
    """Classes of both samples of all pairs of 40 samples of 8 classes, and negative distances."""
    x = rng.normal(size=8)[np.arange(40) // 5] + 0.3 * rng.normal(size=40)
    left, right = np.triu_indices(40, k=1)
    return np.column_stack([left, right]) // 5, -np.abs(x[left] - x[right])


def test_verification_rates_at_every_threshold(pairs):
    classes, decisions = pairs
    same = classes[:, 0] == classes[:, 1]
    display = VerificationDisplay.from_predictions(same, decisions, color="black")
    thresholds = [*np.unique(decisions), np.inf]
    assert display.fmr == pytest.approx([np.mean(decisions[~same] >= t) for t in thresholds])
    assert display.fnmr == pytest.approx([np.mean(decisions[same] < t) for t in thresholds])
    (line,) = display.ax_.lines
    assert_array_equal(line.get_xydata(), np.column_stack([display.fmr, display.fnmr]))
    assert line.get_color() == "black"


def test_verification_verifier(blobs, identity, legend_texts):
    X, y = blobs
    verifier = PairVerifier(identity).fit(X, y)
    left, right = np.triu_indices(len(y), k=1)
    pairs, same = np.stack([X[left], X[right]], axis=1), y[left] == y[right]
    classes = np.column_stack([y[left], y[right]])
    display = VerificationDisplay.from_estimator(verifier, pairs, same, classes=classes)
    predicted = verifier.predict(pairs)
    fmr, fnmr = np.mean(predicted[~same]), np.mean(~predicted[same])
    assert display.operating_point == (fmr, fnmr)
    error = equal_error_rate_score(same, verifier.decision_function(pairs))
    assert legend_texts(display.ax_) == [
        f"PairVerifier, EER {error:.1%}",
        f"threshold: FMR {fmr:.2%}, FNMR {fnmr:.1%}",
    ]
    assert len(display.ax_.collections) == 1


def test_verification_distance_at_threshold():
    """It is accepted, as by the verifier."""
    display = VerificationDisplay.from_predictions([1, 1, 0, 0], [-1, -3, -3, -4], threshold=3)
    assert display.operating_point == (0.5, 0)


def test_verification_band(pairs):
    """Percentiles over data sets that are composed of the drawn classes."""
    classes, decisions = pairs
    same = classes[:, 0] == classes[:, 1]
    display = VerificationDisplay.from_predictions(same, decisions, classes=classes.astype(str))
    fmr, lower, upper = display.band
    assert [fmr[0], fmr[-1]] == pytest.approx([1 / np.sum(~same), 1])
    assert (lower <= upper).all()
    at = np.searchsorted(fmr, 0.2)
    found = []
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = np.bincount(rng.choice(8, 8), minlength=8)
        weights = count[classes[:, 0]] * np.where(same, 1, count[classes[:, 1]])
        genuine, impostors = (np.repeat(decisions[p], weights[p]) for p in (same, ~same))
        thresholds = [np.inf, *np.unique(decisions)[::-1]]
        rates = [[np.mean(impostors >= t), np.mean(genuine < t)] for t in thresholds]
        found.append(np.interp(fmr[at], *np.transpose(rates)))
    assert [lower[at], upper[at]] == pytest.approx(np.percentile(found, [2.5, 97.5]))


def test_verification_band_with_two_classes(rng):
    """Half of the samples of the classes have no pairs of different classes."""
    classes = np.array([[0, 0], [0, 0], [1, 1], [1, 1], [0, 1], [0, 1]])
    same = classes[:, 0] == classes[:, 1]
    display = VerificationDisplay.from_predictions(same, rng.normal(size=6), classes=classes)
    assert np.isfinite(display.band).all()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"y": [1, 1, 1]}, "^y must contain .* Got only 1"),
        ({"y": [0, 1, 2]}, "^y must contain only"),
        ({"decisions": [1, np.nan, 2]}, "decisions contains NaN"),
        ({"classes": [0, 0, 1]}, r"^classes must have shape .* Got shape \(3,\)"),
        ({"classes": [[0, 0], [0, 1]]}, r"inconsistent numbers of samples: \[3, 2\]"),
        ({"classes": [[0, 1], [0, 1], [1, 1]]}, "^classes must be equal in those pairs"),
        ({"classes": [[0, 0], [0, 1], [1, np.nan]]}, "^classes must not have missing"),
    ],
    ids=str,
)
def test_verification_invalid(arguments, match):
    arguments = {"y": [1, 0, 0], "decisions": [-1.0, -2.0, -3.0]} | arguments
    with pytest.raises(ValueError, match=match):
        VerificationDisplay.from_predictions(**arguments)
