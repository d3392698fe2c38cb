"""Scatter plot of embeddings."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from sktriplet.display._axes import make_axes
from sktriplet.display._embedding_page import make_page

N_COLORS = 10  # of the default palette
# Combined with the colors, they distinguish 60 classes.
MARKERS = "o^sDvP"


class EmbeddingDisplay:
    """Scatter plot of embeddings, colored by class.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
        Coordinates of the points.
    y : ndarray of shape (n_samples,)
        Class labels.
    explained_variance_ratio : ndarray of shape (2,), default=None
        Fraction of the variance along each axis, if the points are principal components.
    embeddings : ndarray of shape (n_samples, n_components), default=None
        Embeddings, in which `write_html` searches neighbors. None searches the points.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktriplet.display import EmbeddingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> EmbeddingDisplay.from_predictions(X, y).points.shape
    (150, 2)
    """

    def __init__(
        self,
        points: NDArray,
        y: NDArray,
        *,
        explained_variance_ratio: NDArray | None = None,
        embeddings: NDArray | None = None,
    ):
        self.points = points
        self.y = y
        self.explained_variance_ratio = explained_variance_ratio
        self.embeddings = embeddings

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Plot the embedding of a fitted transformer.

        Parameters
        ----------
        estimator : estimator instance
            Fitted transformer.
        X : array-like of shape (n_samples, ...)
            Samples to transform.
        y : array-like of shape (n_samples,)
            Class labels.
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : EmbeddingDisplay
            Display with the plot.
        """
        return cls.from_predictions(estimator.transform(X), y, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls, embeddings: ArrayLike, y: ArrayLike, *, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Plot embeddings, reduced to two dimensions by PCA if they have more.

        Parameters
        ----------
        embeddings : array-like of shape (n_samples, n_components)
            Embeddings with at least two components.
        y : array-like of shape (n_samples,)
            Class labels.
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : EmbeddingDisplay
            Display with the plot.
        """
        original = check_array(embeddings, input_name="embeddings", ensure_min_features=2)
        points, labels, ratio = original, column_or_1d(y), None
        check_consistent_length(points, labels)
        if points.shape[1] > 2:
            pca = PCA(2, svd_solver="full").fit(points)
            points, ratio = pca.transform(points), pca.explained_variance_ratio_
        display = cls(points, labels, explained_variance_ratio=ratio, embeddings=original)
        return display.plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Plot the points, one color and marker per class.

        With more than 60 classes, colors and markers repeat and there is no legend.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        self : object
            Display with the plot.
        """
        from matplotlib.markers import MarkerStyle

        ax = make_axes(ax)
        classes, codes = np.unique(self.y, return_inverse=True)
        colors = np.array([f"C{i}" for i in range(N_COLORS)])[codes % N_COLORS]
        size = float(np.clip(12000 / len(self.points), 4, 36))
        style = {"color": colors, "s": size, "linewidths": 0, "alpha": 0.8, **kwargs}
        points = ax.scatter(*self.points.T, **style)
        if "marker" not in kwargs:
            shapes = [MarkerStyle(marker) for marker in MARKERS]
            paths = [shape.get_path().transformed(shape.get_transform()) for shape in shapes]
            points.set_paths([paths[i] for i in codes // N_COLORS % len(MARKERS)])
        ax.set(xlabel=self._axis_label(0), ylabel=self._axis_label(1))
        ax.set_aspect("equal", adjustable="datalim")
        if len(classes) <= N_COLORS * len(MARKERS):
            examples = np.unique(codes, return_index=True)[1]
            markers = [kwargs.get("marker", MARKERS[i // N_COLORS]) for i in range(len(classes))]
            _add_legend(ax, points, examples, markers, classes)
        if ax.get_legend() is None:
            ax.set_title(f"{len(classes):,} classes")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def write_html(
        self,
        file: str | PathLike,
        *,
        images: ArrayLike | None = None,
        hover_data: Any = None,
        n_neighbors: int = 8,
        title: str = "Embedding",
    ) -> None:
        """Write an interactive plot to an HTML file.

        The plot can be panned and zoomed, classes can be hidden, and pointing at a sample shows its
        class, image and features. A click draws lines to its nearest neighbors in the embedding,
        which are not always nearest in the plot, and lists them. The file requires no other files
        and no network. Requires Bokeh: ``pip install sktriplet[interactive]``.

        Parameters
        ----------
        file : str or path-like
            File to write.
        images : array-like of shape (n_samples, height, width[, channels]), default=None
            Images to show, also channels-first or flattened from squares. The file contains
            thumbnails with sides of at most 64 pixels, once if images are equal. They are smaller,
            or some images have none, if they would take more than 25 MB.
        hover_data : DataFrame or array-like of shape (n_samples, n_columns), default=None
            Table whose rows to show.
        n_neighbors : int, default=8
            Number of neighbors of each sample, without the sample.
        title : str, default="Embedding"
            Title of the page.

        Raises
        ------
        ImportError
            If Bokeh or Pillow is not installed.
        ValueError
            If `images`, `hover_data` or `n_neighbors` do not fit the number of samples.

        Warns
        -----
        ThumbnailWarning
            If thumbnails are smaller or fewer because of the limit.
        """
        check_consistent_length(self.points, images, hover_data)
        page = make_page(
            self.points,
            self.y,
            self.points if self.embeddings is None else self.embeddings,
            images=images,
            hover_data=hover_data,
            n_neighbors=n_neighbors,
            title=title,
            axis_labels=(self._axis_label(0), self._axis_label(1)),
        )
        Path(file).write_text(page, encoding="utf-8")

    def _axis_label(self, axis: int) -> str:
        if self.explained_variance_ratio is None:
            return f"component {axis + 1}"
        ratio = self.explained_variance_ratio[axis]
        return f"principal component {axis + 1} ({ratio:.0%} of variance)"


def _add_legend(
    ax: Any, points: Any, examples: NDArray, markers: Sequence[Any], classes: NDArray
) -> None:
    """Add a legend to the right of the axes, unless it would fill half of the figure.

    ``examples`` are the indices of a point of each class.
    """
    from matplotlib.lines import Line2D

    colors = np.broadcast_to(points.get_facecolor(), (len(points.get_offsets()), 4))[examples, :3]
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="none", label=str(label))
        for color, marker, label in zip(colors, markers, classes, strict=True)
    ]
    legend = ax.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=-(-len(classes) // 15),  # at most 15 entries per column
        frameon=False,
        handletextpad=0.2,
        columnspacing=1,
    )
    if legend.get_window_extent().width > ax.figure.bbox.width / 2:
        legend.remove()
