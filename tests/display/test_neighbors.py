import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sktriplet.display import NeighborsDisplay
from sktriplet.display._axes import CORRECT, INCORRECT


def test_neighbors_nearest(digits, identity):
    X, y = digits
    queries = [5, 60]
    display = NeighborsDisplay.from_estimator(identity, X, y, queries=queries, n_neighbors=6)
    for row, query in enumerate(queries):
        distances = np.linalg.norm(X - X[query], axis=1)
        distances[query] = -1
        nearest = np.argsort(distances)[:7]
        assert_array_equal(display.images[row], X[nearest].reshape(-1, 8, 8))
        assert_array_equal(display.labels[row], y[nearest])


def test_neighbors_colors(plt):
    display = NeighborsDisplay(np.zeros((1, 3, 2, 2)), np.array([["a", "a", "b"]])).plot()
    query, correct, incorrect = display.ax_[0]
    titles = [panel.get_title() for panel in display.ax_[0]]
    assert titles == ["query", "1", "2"]
    assert query.get_ylabel() == "a"
    for panel, color, label in [(correct, CORRECT, "a"), (incorrect, INCORRECT, "b")]:
        edge = panel.spines["top"].get_edgecolor()
        assert edge == plt.matplotlib.colors.to_rgba(color)
        assert panel.get_xlabel() == label
    # Not distinguished by color alone.
    assert correct.spines["top"].get_linestyle() != incorrect.spines["top"].get_linestyle()


def test_neighbors_default_queries(digits):
    """The first sample of each class, of 8 at most."""
    X, y = digits
    display = NeighborsDisplay.from_predictions(X, y, X.reshape(-1, 8, 8))
    assert display.labels.shape == (8, 9)
    assert display.labels[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "queries", [[-1, 2], np.arange(600) % 197 == 2, 3], ids=["negative", "mask", "scalar"]
)
def test_neighbors_queries(queries, digits, identity):
    X, y = digits
    display = NeighborsDisplay.from_estimator(identity, X, y, queries=queries)
    expected = np.atleast_2d(X[queries]).reshape(-1, 8, 8)
    assert_array_equal(display.images[:, 0], expected)
    assert (display.images[:, 1:] != display.images[:, :1]).any(axis=(2, 3)).all()


def test_neighbors_duplicates():
    """A query is not its own neighbor, even if others are at the same position."""
    images = np.arange(4.0)[:, None, None] * np.ones((4, 2, 2))
    display = NeighborsDisplay.from_predictions(
        [[0.0], [0.0], [0.0], [1.0]], [0, 0, 0, 1], images, queries=[2], n_neighbors=2
    )
    assert sorted(display.images[0, 1:, 0, 0]) == [0, 1]


def test_neighbors_channels(digits):
    X, y = digits
    images = np.repeat(X.reshape(-1, 8, 8, 1) / 16, 3, axis=3)
    channels_last, channels_first = (
        NeighborsDisplay.from_predictions(X, y, images, queries=[0], n_neighbors=2)
        for images in (images, images.transpose(0, 3, 1, 2))
    )
    assert_array_equal(channels_first.images, channels_last.images)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"images": np.zeros((600, 63))}, r"^images must .* Got samples of shape \(63,\)"),
        ({"images": np.zeros((3, 8, 8))}, r"inconsistent numbers of samples: \[600, 600, 3\]"),
        ({"n_neighbors": 600}, r"^n_neighbors must .*600\. Got 600"),
        ({"n_neighbors": 0}, r"^n_neighbors must .* Got 0"),
    ],
    ids=str,
)
def test_neighbors_invalid(kwargs, match, digits, identity):
    X, y = digits
    with pytest.raises(ValueError, match=match):
        NeighborsDisplay.from_estimator(identity, X, y, **kwargs)
