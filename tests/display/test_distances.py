import numpy as np
import pytest

from sktriplet import PairVerifier
from sktriplet.display import DistanceDisplay


def test_distances_verifier(blobs, identity, legend_texts):
    X, y = blobs
    verifier = PairVerifier(identity).fit(X, y)
    left, right = np.triu_indices(len(y), k=1)
    pairs, same = np.stack([X[left], X[right]], axis=1), y[left] == y[right]
    display = DistanceDisplay.from_estimator(verifier, pairs, same)
    predicted = verifier.predict(pairs)
    assert display.distances == pytest.approx(-verifier.decision_function(pairs))
    assert legend_texts(display.ax_) == [
        f"same ({same.sum():,} pairs), {np.mean(~predicted[same]):.1%} errors",
        f"different ({(~same).sum():,} pairs), {np.mean(predicted[~same]):.1%} errors",
        f"threshold {verifier.threshold_:.3g}",
    ]


def test_distances_error_rates(legend_texts):
    """A distance equal to the threshold counts as the same."""
    same, decisions = [1, 1, 1, 1, 0, 0], [-1.0, -2.0, -3.0, -4.0, -3.0, -5.0]
    display = DistanceDisplay.from_predictions(same, decisions, threshold=3)
    assert legend_texts(display.ax_) == [
        "same (4 pairs), 25.0% errors",
        "different (2 pairs), 50.0% errors",
        "threshold 3",
    ]


def test_distances_one_type(legend_texts):
    display = DistanceDisplay.from_predictions([True, True], [-1.0, -2.0])
    assert legend_texts(display.ax_) == ["same (2 pairs)"]


def test_distances_kwargs():
    display = DistanceDisplay.from_predictions([True, False], [-1.0, -2.0], bins=3)
    assert len(display.ax_.patches) == 6


@pytest.mark.parametrize("y", [[1, -1], ["same", "different"], [0, 2]], ids=str)
def test_distances_invalid_y(y):
    with pytest.raises(ValueError, match=r"^y must .* Got \["):
        DistanceDisplay.from_predictions(y, [-0.1, -0.9])


def test_distances_inconsistent_length():
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[2, 1\]"):
        DistanceDisplay.from_predictions([True, False], [-1.0])
