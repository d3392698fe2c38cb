"""TODO."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from sktriplet.display._axes import _axes

# With the ten colours of a palette these tell 60 classes apart.
MARKERS = "o^sDvP"


class EmbeddingDisplay:
    """Rows as points, coloured by class.

    Parameters
    ----------
    points : ndarray of shape (n_rows, 2)

    y : ndarray of shape (n_rows,)
        Class labels.

    explained : ndarray of shape (2,), default=None
        Which part of the variance each axis shows, where it was chosen by PCA.

    Attributes
    ----------
    ax_ : matplotlib Axes

    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktriplet.display import EmbeddingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> EmbeddingDisplay.from_predictions(X, y).points.shape
    (150, 2)
    """

    def __init__(self, points: NDArray, y: NDArray, *, explained: NDArray | None = None):
        self.points = points
        self.y = y
        self.explained = explained

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, ax: Any = None, **kwargs: Any
    ) -> "EmbeddingDisplay":
        """Draw what a fitted transformer makes of rows.

        Parameters
        ----------
        estimator : fitted transformer

        X : array-like of shape (n_rows, ...)

        y : array-like of shape (n_rows,)

        ax : matplotlib Axes, default=None
            None draws on a new figure.

        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        EmbeddingDisplay
        """
        return cls.from_predictions(estimator.transform(X), y, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls, embeddings: ArrayLike, y: ArrayLike, *, ax: Any = None, **kwargs: Any
    ) -> "EmbeddingDisplay":
        """Draw embeddings: two components as they are, more by their two largest variances.

        Parameters
        ----------
        embeddings : array-like of shape (n_rows, n_components)

        y : array-like of shape (n_rows,)

        ax : matplotlib Axes, default=None
            None draws on a new figure.

        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        EmbeddingDisplay
        """
        points = check_array(embeddings, input_name="embeddings", ensure_min_features=2)
        labels = column_or_1d(y)
        check_consistent_length(points, labels)
        explained = None
        if points.shape[1] > 2:
            pca = PCA(2, svd_solver="full").fit(points)
            points, explained = pca.transform(points), pca.explained_variance_ratio_
        return cls(points, labels, explained=explained).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> "EmbeddingDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None draws on a new figure.

        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        EmbeddingDisplay
            Itself.
        """
        ax = _axes(ax)
        names = np.unique(self.y)
        size = float(np.clip(12000 / len(self.points), 4, 36))
        for number, name in enumerate(names):
            style = {
                "color": f"C{number % 10}",
                "marker": MARKERS[number // 10 % len(MARKERS)],
                "s": size,
                "linewidths": 0,
                "alpha": 0.8,
                **kwargs,
            }
            ax.scatter(*self.points[self.y == name].T, label=str(name), **style)
        for axis, number in (("x", 0), ("y", 1)):
            label = f"component {number + 1}"
            if self.explained is not None:
                label = f"principal {label} ({self.explained[number]:.0%} of the variance)"
            ax.set(**{f"{axis}label": label})
        ax.set_aspect("equal", adjustable="datalim")
        legend = ax.legend(
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            ncols=-(-len(names) // 15),
            frameon=False,
            handletextpad=0.2,
            columnspacing=1,
            markerscale=float(np.sqrt(36 / size)),
        )
        for handle in legend.legend_handles:
            handle.set_alpha(1)
        self.ax_, self.figure_ = ax, ax.figure
        return self
