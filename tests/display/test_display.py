import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer

from sktriplet import PairVerifier
from sktriplet.display import DistanceDisplay, EmbeddingDisplay, NeighborsDisplay, TrainingDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

AS_IT_IS = FunctionTransformer()


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:200], y[:200]


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(display):
    """Render, so that what only shows then is found."""
    display.figure_.canvas.draw()
    return display


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, sktriplet.display; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_embedding_of_two_components_is_drawn_as_it_is(iris):
    X, y = iris
    display = drawn(EmbeddingDisplay.from_predictions(X[:, :2], y))
    assert (display.points == X[:, :2]).all()
    for label, points in enumerate(display.ax_.collections):
        assert (points.get_offsets() == X[y == label, :2]).all()
    assert legend_of(display.ax_) == ["0", "1", "2"]
    assert display.ax_.get_xlabel() == "component 1"


def test_embedding_of_more_components_is_drawn_by_their_variance(iris):
    X, y = iris
    display = drawn(EmbeddingDisplay.from_estimator(AS_IT_IS, X, y))
    assert display.points == pytest.approx(PCA(2).fit_transform(X))
    assert display.ax_.get_xlabel() == "principal component 1 (92% of the variance)"


def test_classes_beyond_the_palette_differ_by_marker(rng):
    names = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    y = names[np.arange(260) % 26]
    display = drawn(EmbeddingDisplay.from_predictions(rng.normal(size=(260, 2)), y))
    assert legend_of(display.ax_) == names.tolist()
    looks = {
        (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in display.ax_.collections
    }
    assert len(looks) == 26
    box = display.ax_.get_legend().get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= display.figure_.bbox.y1
    assert box.x1 <= display.figure_.bbox.x1


HISTORY = [
    {"epoch": 1, "train_loss": 0.5, "triplet_fraction": 0.9, "active_fraction": 1.0, "dur": 1.0},
    {"epoch": 2, "train_loss": 0.2, "triplet_fraction": 0.4, "active_fraction": 0.9, "dur": 1.0},
    {"epoch": 3, "train_loss": 0.1, "triplet_fraction": 0.2, "active_fraction": 0.8, "dur": 1.0},
]


def test_training_without_held_out_rows():
    display = drawn(TrainingDisplay.from_predictions(HISTORY))
    loss, parts = display.ax_
    assert loss.lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.2], [3, 0.1]]
    assert [line.get_ydata().tolist() for line in parts.lines] == [[0.9, 0.4, 0.2], [1, 0.9, 0.8]]
    assert parts.get_xlabel() == "epoch"


def test_training_with_held_out_rows_marks_the_best_epoch():
    history = [
        epoch | {"validation_score": score}
        for epoch, score in zip(HISTORY, [0.7, 0.9, 0.8], strict=True)
    ]

    class Trained:
        history_ = history

    display = drawn(TrainingDisplay.from_estimator(Trained()))
    assert len(display.ax_) == 3
    curve, best = display.ax_[-1].lines
    assert curve.get_ydata().tolist() == [0.7, 0.9, 0.8]
    assert best.get_xydata().tolist() == [[2, 0.9]]


def test_training_as_an_embedder_remembers_it(quick, iris):
    embedder = quick(early_stopping=True, max_epochs=3).fit(*iris)
    display = drawn(TrainingDisplay.from_estimator(embedder))
    assert [panel.get_ylabel() for panel in display.ax_] == [
        "loss",
        "part of the pairs",
        "held-out score",
    ]
    curve, best = display.ax_[-1].lines
    assert curve.get_ydata().tolist() == embedder.validation_scores_
    assert best.get_ydata().tolist() == [embedder.best_validation_score_]
    assert legend_of(display.ax_[1]) == ["found a triplet", "of those, with a loss"]


@pytest.mark.parametrize(("history", "got"), [([], "no epochs"), ([{"dur": 1.0}], "dur")])
def test_training_without_anything_to_draw(history, got):
    with pytest.raises(ValueError, match=f"history must hold train_loss.*Got.*{got}"):
        TrainingDisplay.from_predictions(history)


def test_neighbors_are_the_nearest_and_marked(digits):
    X, y = digits
    display = drawn(NeighborsDisplay.from_estimator(AS_IT_IS, X, y, queries=[5, 60], n_neighbors=6))
    for row, query in enumerate([5, 60]):
        distances = np.linalg.norm(X - X[query], axis=1)
        distances[query] = -1
        nearest = np.argsort(distances)[:7]
        assert (display.images[row] == X[nearest].reshape(-1, 8, 8)).all()
        for panel, label in zip(display.ax_[row, 1:], y[nearest[1:]], strict=True):
            color = "tab:green" if label == y[query] else "tab:red"
            assert panel.spines["top"].get_edgecolor() == matplotlib.colors.to_rgba(color)
            assert panel.get_xlabel() == ("" if label == y[query] else str(label))


def test_neighbors_of_the_first_of_each_class(digits):
    X, y = digits
    display = drawn(NeighborsDisplay.from_predictions(X, y, X.reshape(-1, 8, 8)))
    assert display.labels.shape == (8, 9)
    assert display.labels[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_row_among_its_copies_is_not_its_own_neighbor():
    embeddings = np.array([[0.0], [0.0], [0.0], [1.0]])
    images = np.arange(4.0)[:, None, None] * np.ones((4, 2, 2))
    display = NeighborsDisplay.from_predictions(
        embeddings, [0, 0, 0, 1], images, queries=[2], n_neighbors=2
    )
    assert sorted(display.images[0, 1:, 0, 0]) == [0, 1]


def test_neighbors_in_colour(digits):
    X, y = digits
    images = np.repeat(X.reshape(-1, 8, 8, 1) / 16, 3, axis=3)
    last = drawn(NeighborsDisplay.from_predictions(X, y, images, queries=[0], n_neighbors=2))
    first = drawn(
        NeighborsDisplay.from_predictions(
            X, y, images.transpose(0, 3, 1, 2), queries=[0], n_neighbors=2
        )
    )
    assert_array_equal(first.images, last.images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": np.zeros((200, 63))}, r"images must have shape .* Got shape \(200, 63\)"),
        ({"n_neighbors": 200}, "less than the number of rows, 200. Got 200"),
        ({"n_neighbors": 0}, "n_neighbors must be >= 1"),
        ({"images": np.zeros((3, 8, 8))}, "inconsistent numbers of samples"),
    ],
)
def test_neighbors_that_cannot_be_drawn(arguments, message, digits):
    X, y = digits
    with pytest.raises(ValueError, match=message):
        NeighborsDisplay.from_estimator(AS_IT_IS, X, y, **arguments)


def test_distances_of_a_verifier(blobs):
    X, y = blobs
    verifier = PairVerifier(AS_IT_IS).fit(X, y)
    left, right = np.triu_indices(len(y), k=1)
    pairs, same = np.stack([X[left], X[right]], axis=1), y[left] == y[right]
    display = drawn(DistanceDisplay.from_estimator(verifier, pairs, same))
    predicted = verifier.predict(pairs)
    assert display.distances == pytest.approx(-verifier.decision_function(pairs))
    assert legend_of(display.ax_) == [
        f"same ({same.sum():,} pairs), {np.mean(~predicted[same]):.1%} wrong",
        f"different ({(~same).sum():,} pairs), {np.mean(predicted[~same]):.1%} wrong",
        f"threshold {verifier.threshold_:.3g}",
    ]


def test_distances_without_a_threshold_or_a_kind():
    display = drawn(DistanceDisplay.from_predictions([True, True], [-1.0, -2.0]))
    assert legend_of(display.ax_) == ["same (2 pairs)"]


def test_all_on_given_axes(digits):
    X, y = digits
    figure, axes = plt.subplots(2, 2, layout="constrained")
    displays = [
        EmbeddingDisplay.from_estimator(AS_IT_IS, X, y, ax=axes[0, 0], alpha=0.2),
        TrainingDisplay.from_predictions(HISTORY, ax=axes[0, 1]),
        NeighborsDisplay.from_estimator(AS_IT_IS, X, y, ax=axes[1, 0], queries=[0, 1]),
        DistanceDisplay.from_predictions([True, False], [-1.0, -2.0], ax=axes[1, 1], bins=3),
    ]
    for display in displays:
        assert drawn(display).figure_ is figure
    assert displays[0].plot().figure_ is not figure


@pytest.mark.parametrize("queries", [[-1, 2], np.arange(200) % 197 == 2, 3])
def test_queries_as_one_may_give_them(queries, digits):
    X, y = digits
    display = drawn(NeighborsDisplay.from_estimator(AS_IT_IS, X, y, queries=queries))
    asked = np.atleast_1d(np.arange(200)[queries])
    assert (display.images[:, 0] == X[asked].reshape(-1, 8, 8)).all()
    assert (display.images[:, 1:] != display.images[:, :1]).any(axis=(2, 3)).all()


@pytest.mark.parametrize("y", [[1, -1], ["same", "different"]])
def test_distances_of_kinds_that_are_no_truth_values(y):
    with pytest.raises(ValueError, match="y must say of each pair whether it is the same"):
        DistanceDisplay.from_predictions(y, [-0.1, -0.9])


def test_axes_whose_place_cannot_be_divided(digits):
    X, y = digits
    ax = plt.figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="ax must be one of a figure's subplots"):
        NeighborsDisplay.from_estimator(AS_IT_IS, X, y, ax=ax)
