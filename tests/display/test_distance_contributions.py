import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from sktriplet.display import DistanceContributionsDisplay
from sktriplet.inspection import distance_contributions


def test_table(iris, make_embedder):
    X, y = iris
    embedder = make_embedder().fit(X, y)
    display = DistanceContributionsDisplay.from_estimator(embedder, X[:1], X[50:51], max_features=2)
    expected = distance_contributions(embedder, X[:1], X[50:51]).contributions[0]
    assert_array_equal(display.contributions, expected)
    first, second, others = display.ax_.patches
    order = np.argsort(-np.abs(expected))
    assert [first.get_width(), second.get_width()] == expected[order[:2]].tolist()
    assert others.get_width() == pytest.approx(expected[order[2:]].sum())
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    values = f"{X[0, order[0]]:.4g} → {X[50, order[0]]:.4g}"
    assert labels[0] == f"x{order[0]}: {values}"
    assert labels[2] == "2 other features"


def test_dataframe(make_embedder, rng):
    X = pd.DataFrame({"size": rng.normal(size=60), "color": ["red", "blue"] * 30})
    embedder = make_embedder().fit(X, X["color"] == "red")
    display = DistanceContributionsDisplay.from_estimator(embedder, X[:1], X[1:2])
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert "color: red → blue" in labels
    assert len(labels) == 2


def test_sparse_table(iris, make_embedder):
    X, y = iris
    embedder = make_embedder().fit(csr_array(X), y)
    pair = csr_array(X[:1]), csr_array(X[50:51])
    display = DistanceContributionsDisplay.from_estimator(embedder, *pair)
    assert len(display.ax_.patches) == 4


@pytest.mark.parametrize("shape", [(2, 8, 9), (8, 9, 2), (144,)])
def test_image(shape, rng, make_image_embedder):
    """Shown with channels last, and contributions summed over channels."""
    X = rng.normal(size=(40, 2, 8, 9)).astype(np.float32)
    embedder = make_image_embedder(input_shape=(2, 8, 9)).fit(X, np.arange(40) % 2)
    samples = np.moveaxis(X, 1, 3) if shape[-1] == 2 else X.reshape(-1, *shape)
    display = DistanceContributionsDisplay.from_estimator(embedder, samples[:1], samples[1:2])
    expected = distance_contributions(embedder, X[:1], X[1:2]).contributions[0]
    assert_allclose(display.contributions, np.moveaxis(expected, 0, 2), atol=1e-5)
    left, right, contributions = (panel.images[0].get_array() for panel in display.ax_)
    assert_allclose(left, X[0].mean(axis=0), atol=1e-6)
    assert_allclose(right, X[1].mean(axis=0), atol=1e-6)
    assert_allclose(contributions, expected.sum(axis=0), atol=1e-5)


def test_gray_image(digits, make_image_embedder):
    X, y = digits
    X = X.reshape(-1, 8, 8)
    embedder = make_image_embedder().fit(X[:100], y[:100])
    display = DistanceContributionsDisplay.from_estimator(embedder, X[:1], X[1:2])
    assert_array_equal(display.ax_[0].images[0].get_array(), X[0])
    assert display.ax_[2].images[0].get_array().shape == (8, 8)


def test_sequence(rng, make_image_embedder):
    X = rng.normal(size=(40, 2, 24)).astype(np.float32)
    embedder = make_image_embedder(input_shape=(2, 24)).fit(X, np.arange(40) % 2)
    display = DistanceContributionsDisplay.from_estimator(embedder, X[:1], X[1:2])
    assert display.ax_.shape == (2,)
    assert_array_equal(display.ax_[1].lines[0].get_ydata(), X[0, 1])
    assert_array_equal(display.ax_[1].images[0].get_array(), display.contributions[[1]])


def test_several_samples(iris, make_embedder):
    X, y = iris
    embedder = make_embedder().fit(X, y)
    with pytest.raises(ValueError, match=r"one sample each\. Got 2"):
        DistanceContributionsDisplay.from_estimator(embedder, X[:2], X[2:4])
