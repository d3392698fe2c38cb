import subprocess
import sys

import pytest

from sktriplet.display import (
    CumulativeMatchDisplay,
    DistanceDisplay,
    EmbeddingDisplay,
    NeighborsDisplay,
    TrainingDisplay,
    VerificationDisplay,
)


def plot_embedding(**kwargs):
    return EmbeddingDisplay.from_predictions([[0, 1], [1, 0]], ["a", "b"], **kwargs)


def plot_training(**kwargs):
    return TrainingDisplay.from_predictions([{"train_loss": 1.0, "active_fraction": 0.5}], **kwargs)


def plot_neighbors(**kwargs):
    images = [[[0, 1]], [[1, 2]], [[2, 3]]]
    return NeighborsDisplay.from_predictions(
        [[0], [1], [2]], ["a", "a", "b"], images, n_neighbors=2, **kwargs
    )


def plot_distances(**kwargs):
    return DistanceDisplay.from_predictions([True, False], [-1.0, -2.0], **kwargs)


def plot_verification(**kwargs):
    return VerificationDisplay.from_predictions([True, False], [-1.0, -2.0], **kwargs)


def plot_cumulative_match(**kwargs):
    return CumulativeMatchDisplay.from_predictions([[0], [1], [2]], ["a", "b", "a"], **kwargs)


PLOTS = [
    plot_embedding,
    plot_training,
    plot_neighbors,
    plot_distances,
    plot_verification,
    plot_cumulative_match,
]


def test_matplotlib_import():
    """It is imported only to plot."""
    code = "import sys, sktriplet.display; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("plot", PLOTS)
def test_ax_given(plot, plt):
    figure, axes = plt.subplots(2, 2, layout="constrained")
    display = plot(ax=axes[0, 1])
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("plot", PLOTS)
def test_ax_none(plot, plt):
    display = plot()
    figure = display.figure_
    assert display.plot() is display
    assert display.figure_ is not figure
    assert len(plt.get_fignums()) == 2


@pytest.mark.parametrize("plot", [plot_training, plot_neighbors])
def test_ax_from_add_axes(plot, plt):
    """Axes without a grid cannot be subdivided."""
    with pytest.raises(ValueError, match=r"^ax must .*add_axes"):
        plot(ax=plt.figure().add_axes((0, 0, 1, 1)))
