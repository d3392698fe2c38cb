"""TODO."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from sktriplet.display._axes import RIGHT, WRONG, _image_grid

# So many of an image matplotlib can draw, and only where they come last.
CHANNELS = (1, 3, 4)


class NeighborsDisplay:
    """Queries and their nearest neighbours, a row of images each, right and wrong marked.

    Parameters
    ----------
    images : ndarray of shape (n_queries, 1 + n_neighbors, height, width[, channels])
        Each query, then its neighbours from the nearest on.

    labels : ndarray of shape (n_queries, 1 + n_neighbors)
        Their classes.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes of shape (n_queries, 1 + n_neighbors)

    figure_ : matplotlib Figure
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
    ) -> "NeighborsDisplay":
        """Draw the neighbours that rows have among each other.

        Parameters
        ----------
        estimator : fitted transformer

        X : array-like of shape (n_rows, ...)

        y : array-like of shape (n_rows,)

        images : array-like of shape (n_rows, height, width[, channels]), default=None
            What to show; channels may come first, too. None shows the rows of X, where they
            are images or are flattened from square ones.

        queries : array-like of int, default=None
            Which rows to search with. None takes the first row of each class, of 8 at most.

        n_neighbors : int, default=8

        ax : matplotlib Axes, default=None
            Its place is divided among the images. None draws on a new figure.

        Returns
        -------
        NeighborsDisplay
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
    ) -> "NeighborsDisplay":
        """Draw the neighbours that embeddings have among each other.

        Parameters
        ----------
        embeddings : array-like of shape (n_rows, n_components)

        y : array-like of shape (n_rows,)

        images : array-like of shape (n_rows, height, width[, channels]) or (n_rows, side * side)
            Channels may come first, too.

        queries : array-like of int or bool, default=None
            Which rows to search with. None takes the first row of each class, of 8 at most.

        n_neighbors : int, default=8

        ax : matplotlib Axes, default=None
            Its place is divided among the images. None draws on a new figure.

        Returns
        -------
        NeighborsDisplay
        """
        points = check_array(embeddings, input_name="embeddings")
        labels, pictures = column_or_1d(y), np.asarray(images)
        check_consistent_length(points, labels, pictures)
        if pictures.ndim == 2:
            side = int(np.sqrt(pictures.shape[1]))
            if side * side != pictures.shape[1]:
                raise ValueError(
                    "images must have shape (n_rows, height, width[, channels]), or be flattened "
                    f"from square ones. Got shape {pictures.shape}."
                )
            pictures = pictures.reshape(-1, side, side)
        elif pictures.ndim == 4 and pictures.shape[3] not in CHANNELS:
            pictures = np.moveaxis(pictures, 1, 3)
        if queries is None:
            queries = np.sort(np.unique(labels, return_index=True)[1])[:8]
        asked = np.arange(len(points))[np.atleast_1d(queries)]  # also of -1, or of a mask
        if not 1 <= n_neighbors < len(points):
            raise ValueError(
                f"n_neighbors must be >= 1 and less than the number of rows, {len(points)}. "
                f"Got {n_neighbors}."
            )
        found = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(points)
        nearest = found.kneighbors(points[asked], return_distance=False)
        # A row may share its place with others, and so not be the first that it finds.
        others = [
            neighbors[neighbors != query][:n_neighbors]
            for query, neighbors in zip(asked, nearest, strict=True)
        ]
        rows = np.column_stack([asked, others])
        return cls(pictures[rows], labels[rows]).plot(ax=ax)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> "NeighborsDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Its place is divided among the images. None draws on a new figure.

        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        NeighborsDisplay
            Itself.
        """
        n_queries, n_shown = self.labels.shape
        axes = _image_grid(ax, n_queries, n_shown)
        style = {"cmap": "gray", "interpolation": "nearest", **kwargs}
        for row, column in np.ndindex(n_queries, n_shown):
            panel = axes[row, column]
            panel.imshow(self.images[row, column], **style)
            panel.set(xticks=[], yticks=[])
            right = self.labels[row, column] == self.labels[row, 0]
            frame = "black" if column == 0 else RIGHT if right else WRONG
            panel.spines[:].set(color=frame, linewidth=1 if column == 0 else 2.5)
            if column == 0:
                panel.set_ylabel(
                    self.labels[row, 0], rotation=0, horizontalalignment="right", va="center"
                )
            elif not right:
                panel.set_xlabel(self.labels[row, column], color=WRONG, fontsize=8, labelpad=2)
        axes[0, 0].set_title("query", fontsize=9)
        for number in range(1, n_shown):
            axes[0, number].set_title(str(number), fontsize=9)
        self.ax_, self.figure_ = axes, axes[0, 0].figure
        return self
