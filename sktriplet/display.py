"""Pictures of embeddings, of training and of what is found, as scikit-learn's displays.

Each has ``from_estimator`` and ``from_predictions``; both draw at once, and the display that
they return can draw again on other axes with ``plot``. matplotlib is needed only then.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_consistent_length, column_or_1d

RIGHT, WRONG = "tab:green", "tab:red"
# With the ten colours of a palette these tell 60 classes apart.
MARKERS = "o^sDvP"
# So many of an image matplotlib can draw, and only where they come last.
CHANNELS = (1, 3, 4)


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


class TrainingDisplay:
    """What happened in each epoch: the loss, the triplets found, and the held-out score.

    Parameters
    ----------
    history : list of dict
        One an epoch, as in the ``history_`` of a fitted
        :class:`~sktriplet.TripletEmbedder`: ``epoch``, ``train_loss``,
        ``triplet_fraction``, ``active_fraction``, and where rows were held out
        ``validation_score``. What is missing is not drawn.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes

    figure_ : matplotlib Figure
    """

    def __init__(self, history: Sequence[Mapping[str, float]]):
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> "TrainingDisplay":
        """Draw the ``history_`` of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator

        ax : matplotlib Axes, default=None
            Its place is divided among the panels. None draws on a new figure.

        Returns
        -------
        TrainingDisplay
        """
        return cls.from_predictions(estimator.history_, ax=ax)

    @classmethod
    def from_predictions(
        cls, history: Sequence[Mapping[str, float]], *, ax: Any = None
    ) -> "TrainingDisplay":
        """Draw a history.

        Parameters
        ----------
        history : list of dict

        ax : matplotlib Axes, default=None
            Its place is divided among the panels. None draws on a new figure.

        Returns
        -------
        TrainingDisplay
        """
        return cls(history).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> "TrainingDisplay":
        """Draw a panel for each of the loss, the triplets and the score that there is.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Its place is divided among the panels. None draws on a new figure.

        Returns
        -------
        TrainingDisplay
            Itself.
        """
        panels = [
            ("loss", {"train_loss": "training"}),
            (
                "part of the pairs",
                {"triplet_fraction": "found a triplet", "active_fraction": "of those, with a loss"},
            ),
            ("held-out score", {"validation_score": "held-out rows"}),
        ]
        known = {name for epoch in self.history for name in epoch}
        panels = [(label, curves) for label, curves in panels if known & set(curves)]
        if not panels:
            raise ValueError(
                "history must hold train_loss, triplet_fraction, active_fraction or "
                f"validation_score. Got {sorted(known) or 'no epochs'}."
            )
        axes = _stacked_axes(ax, len(panels))
        epochs = [epoch.get("epoch", number) for number, epoch in enumerate(self.history, 1)]
        for panel, (label, curves) in zip(axes, panels, strict=True):
            for name, meaning in curves.items():
                if name in known:
                    values = [epoch.get(name, np.nan) for epoch in self.history]
                    panel.plot(epochs, values, marker=".", label=meaning)
            panel.set_ylabel(label)
            panel.grid(alpha=0.3)
            if len(curves) > 1:
                panel.legend(frameon=False)
        if "validation_score" in known:
            scores = [epoch.get("validation_score", -np.inf) for epoch in self.history]
            best = int(np.nanargmax(scores))
            axes[-1].plot(epochs[best], scores[best], "o", color=RIGHT, label="best")
            axes[-1].legend(frameon=False)
        axes[-1].set_xlabel("epoch")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        self.ax_, self.figure_ = axes, axes[0].figure
        return self


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


class DistanceDisplay:
    """How far apart pairs are that are the same, and pairs that are different.

    Parameters
    ----------
    distances : ndarray of shape (n_pairs,)

    same : ndarray of shape (n_pairs,)
        Whether each pair is the same.

    threshold : float, default=None
        The largest distance at which a pair is held to be the same.

    Attributes
    ----------
    ax_ : matplotlib Axes

    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sktriplet.display import DistanceDisplay
    >>> display = DistanceDisplay.from_predictions([True, False], [-0.1, -0.7], threshold=0.4)
    >>> display.ax_.get_xlabel()
    'distance'
    """

    def __init__(self, distances: NDArray, same: NDArray, *, threshold: float | None = None):
        self.distances = distances
        self.same = same
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls, estimator: Any, pairs: Any, y: ArrayLike, *, ax: Any = None, **kwargs: Any
    ) -> "DistanceDisplay":
        """Draw the distances that a verifier finds, and its threshold.

        Parameters
        ----------
        estimator : fitted PairVerifier

        pairs : array-like of shape (n_pairs, 2, ...)

        y : array-like of shape (n_pairs,)
            Whether each pair is the same.

        ax : matplotlib Axes, default=None
            None draws on a new figure.

        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        DistanceDisplay
        """
        return cls.from_predictions(
            y,
            estimator.decision_function(pairs),
            threshold=estimator.threshold_,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        decisions: ArrayLike,
        *,
        threshold: float | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> "DistanceDisplay":
        """Draw distances.

        Parameters
        ----------
        y : array-like of shape (n_pairs,)
            Whether each pair is the same.

        decisions : array-like of shape (n_pairs,)
            Minus the distances, as from ``decision_function``.

        threshold : float, default=None
            The largest distance at which a pair is held to be the same.

        ax : matplotlib Axes, default=None
            None draws on a new figure.

        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        DistanceDisplay
        """
        same, distances = column_or_1d(y), -column_or_1d(decisions)
        check_consistent_length(same, distances)
        if not np.isin(same, [0, 1]).all():
            raise ValueError(
                "y must say of each pair whether it is the same, True or False. "
                f"Got {np.unique(same)[:5].tolist()}."
            )
        same = same.astype(bool)
        return cls(distances, same, threshold=threshold).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> "DistanceDisplay":
        """Draw a histogram of each kind, each with an area of one.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None draws on a new figure.

        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        DistanceDisplay
            Itself.
        """
        ax = _axes(ax)
        style = {
            "bins": np.histogram_bin_edges(self.distances, bins=60),
            "density": True,
            "alpha": 0.6,
            **kwargs,
        }
        for kind, color, name in [(True, "C0", "same"), (False, "C1", "different")]:
            distances = self.distances[self.same == kind]
            if not len(distances):
                continue
            label = f"{name} ({len(distances):,} pairs)"
            if self.threshold is not None:
                wrong = np.mean((distances <= self.threshold) != kind)
                label += f", {wrong:.1%} wrong"
            ax.hist(distances, label=label, **{"color": color, **style})
        if self.threshold is not None:
            ax.axvline(
                self.threshold, color="black", ls="--", label=f"threshold {self.threshold:.3g}"
            )
        ax.set(xlabel="distance", ylabel="density")
        ax.margins(y=0.3)
        ax.legend(framealpha=0.9)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _axes(ax: Any) -> Any:
    """Return axes to draw on."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def _stacked_axes(ax: Any, n_panels: int) -> Any:
    """Return panels below each other that share their x axis."""
    if ax is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(6.4, 1 + 1.9 * n_panels), layout="constrained")
        return figure.subplots(n_panels, 1, sharex=True, squeeze=False)[:, 0]
    return _divided(ax, n_panels, 1, sharex=True, hspace=0.15)[:, 0]


def _image_grid(ax: Any, n_rows: int, n_columns: int) -> Any:
    if ax is None:
        import matplotlib.pyplot as plt

        size = 0.4 + 0.8 * n_columns, 0.4 + 0.9 * n_rows
        return plt.figure(figsize=size, layout="constrained").subplots(
            n_rows, n_columns, squeeze=False
        )
    return _divided(ax, n_rows, n_columns, hspace=0.4)


def _divided(ax: Any, n_rows: int, n_columns: int, *, hspace: float, sharex: bool = False) -> Any:
    """Divide the place of axes into a grid of others."""
    if ax.get_subplotspec() is None:
        raise ValueError(
            "ax must be one of a figure's subplots, so that its place can be divided. Got axes "
            "that were put there by add_axes."
        )
    ax.axis("off")
    grid = ax.get_subplotspec().subgridspec(n_rows, n_columns, hspace=hspace)
    return grid.subplots(sharex=sharex, squeeze=False)
