import pytest
from numpy.testing import assert_array_equal
from sklearn.decomposition import PCA

from sktriplet.display import CumulativeMatchDisplay
from sktriplet.metrics import cumulative_match_characteristic_curve


def test_cumulative_match_curve(iris, legend_texts):
    X, y = iris
    display = CumulativeMatchDisplay.from_predictions(X, y, max_rank=7)
    ranks, recall = cumulative_match_characteristic_curve(X, y, max_rank=7)
    (line,) = display.ax_.lines
    assert_array_equal(line.get_xdata(), ranks)
    assert_array_equal(line.get_ydata(), recall)
    assert legend_texts(display.ax_) == [f"rank 1: {recall[0]:.1%}"]


def test_cumulative_match_estimator(iris, legend_texts, rng):
    """Queries and references are transformed, other arguments passed on."""
    X, y = iris
    pca, cameras = PCA(1).fit(X), rng.integers(3, size=150)
    arguments = {
        "reference_y": y[50:],
        "groups": cameras[:50],
        "reference_groups": cameras[50:],
        "metric": "cosine",
    }
    y = y[rng.permutation(150)]
    arguments["reference_y"] = y[50:]
    display = CumulativeMatchDisplay.from_estimator(
        pca, X[:50], y[:50], reference=X[50:], max_rank=4, color="black", **arguments
    )
    Z = pca.transform(X)
    _, recall = cumulative_match_characteristic_curve(
        Z[:50], y[:50], reference=Z[50:], max_rank=4, **arguments
    )
    assert display.recall == pytest.approx(recall)
    assert legend_texts(display.ax_) == [f"PCA (rank 1: {recall[0]:.1%})"]
    assert display.ax_.lines[0].get_color() == "black"


def test_cumulative_match_two_curves(iris, legend_texts):
    X, y = iris
    display = CumulativeMatchDisplay.from_predictions(X, y, name="all")
    CumulativeMatchDisplay.from_predictions(X[:, :1], y, name="one", ax=display.ax_)
    assert [text.split(" (")[0] for text in legend_texts(display.ax_)] == ["all", "one"]
