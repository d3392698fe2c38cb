import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.decomposition import PCA

from sktriplet.display import EmbeddingDisplay


def test_embedding_two_components(iris, legend_texts):
    X, y = iris
    display = EmbeddingDisplay.from_predictions(X[:, :2], y)
    assert_array_equal(display.points, X[:, :2])
    (points,) = display.ax_.collections
    assert_array_equal(points.get_offsets(), X[:, :2])
    assert legend_texts(display.ax_) == ["0", "1", "2"]
    assert display.ax_.get_xlabel() == "component 1"
    assert display.ax_.get_ylabel() == "component 2"


def test_embedding_pca(iris, identity):
    X, y = iris
    display = EmbeddingDisplay.from_estimator(identity, X, y)
    assert display.points == pytest.approx(PCA(2).fit_transform(X))
    assert display.ax_.get_xlabel() == "principal component 1 (92% of variance)"


def test_embedding_many_classes(rng, legend_texts):
    """Classes beyond the palette differ by marker, and the legend fits into the figure."""
    from matplotlib.markers import MarkerStyle

    classes = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    y = classes[np.arange(260) % 26]
    display = EmbeddingDisplay.from_predictions(rng.normal(size=(260, 2)), y)
    display.figure_.canvas.draw()
    assert legend_texts(display.ax_) == classes.tolist()
    (points,) = display.ax_.collections
    styles = [
        (tuple(color), path.vertices.tobytes())
        for color, path in zip(points.get_facecolor(), points.get_paths(), strict=True)
    ]
    assert len(set(zip(styles, y, strict=True))) == len(set(styles)) == 26
    for handle, label in zip(display.ax_.get_legend().legend_handles, classes, strict=True):
        color, vertices = styles[list(y).index(label)]
        assert handle.get_color() == pytest.approx(color[:3])
        marker = MarkerStyle(handle.get_marker())
        path = marker.get_path().transformed(marker.get_transform())
        assert path.vertices.tobytes() == vertices
    box = display.ax_.get_legend().get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= display.figure_.bbox.y1
    assert box.x1 <= display.figure_.bbox.x1


def test_embedding_kwargs(iris, identity):
    display = EmbeddingDisplay.from_estimator(identity, *iris, alpha=0.2, color="black")
    (points,) = display.ax_.collections
    assert_array_equal(points.get_facecolor(), [[0, 0, 0, 0.2]])


def test_embedding_marker(iris, identity):
    display = EmbeddingDisplay.from_estimator(identity, *iris, marker="x", linewidths=1)
    assert len(display.ax_.collections[0].get_paths()) == 1
    assert {handle.get_marker() for handle in display.ax_.get_legend().legend_handles} == {"x"}


@pytest.mark.parametrize("y", [np.arange(1000), np.arange(1000) % 60 + 1e9], ids=["many", "wide"])
def test_embedding_legend_too_large(y, rng):
    """More classes than styles, and a legend that would fill more than half of the figure."""
    labels = np.array([f"a class with a long name {label}" for label in y])
    display = EmbeddingDisplay.from_predictions(rng.normal(size=(1000, 2)), labels)
    assert display.ax_.get_legend() is None
    assert display.ax_.get_title() == f"{len(set(y)):,} classes"
    assert len(display.ax_.collections) == 1


@pytest.mark.parametrize(
    ("embeddings", "y", "match"),
    [
        ([[0.0], [1.0]], [0, 1], "1 feature"),
        ([[0.0, np.nan], [1.0, 0.0]], [0, 1], "embeddings contains NaN"),
        ([[0.0, 1.0], [1.0, 0.0]], [0, 1, 1], r"inconsistent numbers of samples: \[2, 3\]"),
    ],
)
def test_embedding_invalid(embeddings, y, match):
    with pytest.raises(ValueError, match=match):
        EmbeddingDisplay.from_predictions(embeddings, y)
