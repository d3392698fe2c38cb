"""Images of queries and their nearest neighbors."""

from math import isqrt
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import _safe_indexing, check_array, check_consistent_length, column_or_1d

from sktriplet.display._axes import CORRECT, INCORRECT, make_grid

# Numbers of channels that matplotlib accepts, in the last dimension only.
CHANNELS = (1, 3, 4)


class NeighborsDisplay:
    """Images of queries and their nearest neighbors, with their classes.

    Neighbors of the query's class have a solid green frame, others a dashed orange one.

    Parameters
    ----------
    images : ndarray of shape (n_queries, 1 + n_neighbors, height, width[, channels])
        Image of each query, followed by its neighbors from nearest to farthest.
    labels : ndarray of shape (n_queries, 1 + n_neighbors)
        Class labels of the images.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes of shape (n_queries, 1 + n_neighbors)
        Axes with the images.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktriplet.display import NeighborsDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> NeighborsDisplay.from_predictions(X, y, X, queries=[0, 1], n_neighbors=3).labels
    array([[0, 0, 0, 0],
           [1, 1, 1, 1]])
    """

    def __init__(self, images: NDArray, labels: NDArray):
        self.images = images
        self.labels = labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        images: ArrayLike | None = None,
        queries: ArrayLike | None = None,
        n_neighbors: int = 8,
        ax: Any = None,
    ) -> Self:
        """Plot the nearest neighbors of samples in the embedding of a fitted transformer.

        Parameters
        ----------
        estimator : estimator instance
            Fitted transformer.
        X : array-like of shape (n_samples, ...)
            Samples to transform.
        y : array-like of shape (n_samples,)
            Class labels.
        images : array-like of shape (n_samples, height, width[, channels]), default=None
            Images to show, also channels-first or flattened from squares. If None, X is shown.
        queries : array-like of int or bool, default=None
            Indices or mask of the queries. By default, the first sample of up to 8 classes.
        n_neighbors : int, default=8
            Number of neighbors of each query, the query excluded.
        ax : matplotlib Axes, default=None
            Axes to subdivide. If None, a new figure is created.

        Returns
        -------
        display : NeighborsDisplay
            Display with the plot.
        """
        shown = X if images is None else images
        return cls.from_predictions(
            estimator.transform(X), y, shown, queries=queries, n_neighbors=n_neighbors, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        embeddings: ArrayLike,
        y: ArrayLike,
        images: ArrayLike,
        *,
        queries: ArrayLike | None = None,
        n_neighbors: int = 8,
        ax: Any = None,
    ) -> Self:
        """Plot the nearest neighbors of samples, given embeddings.

        Parameters
        ----------
        embeddings : array-like of shape (n_samples, n_components)
            Embeddings to search.
        y : array-like of shape (n_samples,)
            Class labels.
        images : array-like of shape (n_samples, height, width[, channels])
            Images to show, also channels-first or flattened from squares.
        queries : array-like of int or bool, default=None
            Indices or mask of the queries. By default, the first sample of up to 8 classes.
        n_neighbors : int, default=8
            Number of neighbors of each query, the query excluded.
        ax : matplotlib Axes, default=None
            Axes to subdivide. If None, a new figure is created.

        Returns
        -------
        display : NeighborsDisplay
            Display with the plot.
        """
        points, labels = check_array(embeddings, input_name="embeddings"), column_or_1d(y)
        check_consistent_length(points, labels, images)
        if queries is None:
            queries = np.sort(np.unique(labels, return_index=True)[1])[:8]
        indices = np.arange(len(labels))[np.atleast_1d(queries)]  # resolves -1 and masks
        shown = np.column_stack([indices, find_nearest(points, indices, n_neighbors)])
        rows, positions = np.unique(shown, return_inverse=True)
        pictures = to_images(_safe_indexing(images, rows))  # Others may not be in memory.
        return cls(pictures[positions.reshape(shown.shape)], labels[shown]).plot(ax=ax)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Plot one row of images per query.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to subdivide. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        self : object
            Display with the plot.
        """
        n_queries, n_columns = self.labels.shape
        figsize = 0.4 + 0.8 * n_columns, 0.4 + 0.9 * n_queries
        axes = make_grid(ax, (n_queries, n_columns), figsize, hspace=0.4)
        style = {"cmap": "gray", "interpolation": "nearest", **kwargs}
        for (query, rank), panel in np.ndenumerate(axes):
            label = self.labels[query, rank]
            panel.imshow(self.images[query, rank], **style)
            panel.set(xticks=[], yticks=[])
            if query == 0:
                panel.set_title(str(rank or "query"), fontsize=9)
            if rank == 0:
                panel.set_ylabel(label, rotation=0, horizontalalignment="right", va="center")
                continue
            is_correct = label == self.labels[query, 0]
            color, dashes = (CORRECT, "-") if is_correct else (INCORRECT, (0, (2, 1)))
            panel.spines[:].set(color=color, linewidth=2.5, linestyle=dashes, capstyle="butt")
            panel.set_xlabel(label, color=color, fontsize=8, labelpad=2)
        self.ax_, self.figure_ = axes, axes[0, 0].figure
        return self


def to_images(images: ArrayLike) -> NDArray:
    """Return images as matplotlib takes them: not flattened, and with the channels last."""
    images = np.asarray(images)
    if images.ndim == 2:
        side = isqrt(images.shape[1])
        if side * side != images.shape[1]:
            raise ValueError(
                "images must have shape (n_samples, height, width[, channels]) or be flattened "
                f"from square images. Got samples of shape {images.shape[1:]}."
            )
        return images.reshape(-1, side, side)
    if images.ndim == 4 and images.shape[3] not in CHANNELS:
        return np.moveaxis(images, 1, 3)
    return images


def find_nearest(embeddings: NDArray, queries: NDArray, n_neighbors: int) -> NDArray[np.intp]:
    """Return the indices of the neighbors of each query, without the query."""
    if not 1 <= n_neighbors < len(embeddings):
        limits = f"at least 1 and less than n_samples={len(embeddings)}"
        raise ValueError(f"n_neighbors must be {limits}. Got {n_neighbors}.")
    search = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(embeddings)
    found = search.kneighbors(embeddings[queries], return_distance=False)
    # A query with duplicates is not always its own first neighbor, or among those found.
    others = [indices[indices != query] for indices, query in zip(found, queries, strict=True)]
    return np.stack([indices[:n_neighbors] for indices in others])
