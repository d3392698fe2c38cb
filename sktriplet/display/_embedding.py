"""Scatter plot of embeddings."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from sktriplet.display._axes import make_axes

# Combined with the ten colors of the default palette, they distinguish 60 classes.
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
        self, points: NDArray, y: NDArray, *, explained_variance_ratio: NDArray | None = None
    ):
        self.points = points
        self.y = y
        self.explained_variance_ratio = explained_variance_ratio

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
        points = check_array(embeddings, input_name="embeddings", ensure_min_features=2)
        labels, ratio = column_or_1d(y), None
        check_consistent_length(points, labels)
        if points.shape[1] > 2:
            pca = PCA(2, svd_solver="full").fit(points)
            points, ratio = pca.transform(points), pca.explained_variance_ratio_
        return cls(points, labels, explained_variance_ratio=ratio).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Plot the points, one color and marker per class.

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
        ax = make_axes(ax)
        classes = np.unique(self.y)
        size = float(np.clip(12000 / len(self.points), 4, 36))
        for i, label in enumerate(classes):
            style = {
                "color": f"C{i % 10}",
                "marker": MARKERS[i // 10 % len(MARKERS)],
                "s": size,
                "linewidths": 0,
                "alpha": 0.8,
                **kwargs,
            }
            ax.scatter(*self.points[self.y == label].T, label=str(label), **style)
        ax.set(xlabel=self._axis_label(0), ylabel=self._axis_label(1))
        ax.set_aspect("equal", adjustable="datalim")
        legend = ax.legend(
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            ncols=-(-len(classes) // 15),  # at most 15 entries per column
            frameon=False,
            handletextpad=0.2,
            columnspacing=1,
            markerscale=float(np.sqrt(36 / size)),
        )
        for handle in legend.legend_handles:
            handle.set_alpha(1)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _axis_label(self, axis: int) -> str:
        if self.explained_variance_ratio is None:
            return f"component {axis + 1}"
        ratio = self.explained_variance_ratio[axis]
        return f"principal component {axis + 1} ({ratio:.0%} of variance)"
