"""CMC curve."""

from typing import Any, Self

from numpy.typing import ArrayLike, NDArray

from sktriplet.display._axes import make_axes
from sktriplet.metrics import cumulative_match_characteristic_curve


class CumulativeMatchDisplay:
    """Cumulative match characteristic (CMC): recall at k as a function of k.

    Parameters
    ----------
    ranks : ndarray of shape (n_ranks,)
        Ranks 1, 2, ...
    recall : ndarray of shape (n_ranks,)
        Fraction of the queries whose first match has at most this rank.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    sktriplet.metrics.cumulative_match_characteristic_curve : Definition of the curve.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktriplet.display import CumulativeMatchDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> CumulativeMatchDisplay.from_predictions(X, y, max_rank=3).recall.round(2)
    array([0.96, 0.96, 0.97])
    """

    def __init__(self, ranks: NDArray, recall: NDArray, *, name: str | None = None):
        self.ranks = ranks
        self.recall = recall
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        reference: Any = None,
        max_rank: int = 20,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the curve of the embedding of a fitted transformer.

        Parameters
        ----------
        estimator : estimator instance
            Fitted transformer.
        X : array-like of shape (n_samples, ...)
            Queries to transform. Without ``reference``, each query searches all others.
        y : array-like of shape (n_samples,)
            Classes of the queries.
        reference : array-like of shape (n_reference_samples, ...), default=None
            Samples to transform and to search instead.
        max_rank : int, default=20
            Largest rank.
        name : str, default=None
            Name of the curve. If None, that of the estimator's class.
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments of `from_predictions`.

        Returns
        -------
        display : CumulativeMatchDisplay
            Display with the plot.
        """
        return cls.from_predictions(
            estimator.transform(X),
            y,
            reference=None if reference is None else estimator.transform(reference),
            max_rank=max_rank,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        embeddings: ArrayLike,
        y: ArrayLike,
        *,
        max_rank: int = 20,
        reference: ArrayLike | None = None,
        reference_y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        reference_groups: ArrayLike | None = None,
        metric: str = "euclidean",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the curve of embeddings.

        Parameters
        ----------
        embeddings : array-like of shape (n_samples, n_components)
            Embeddings of the queries. Without ``reference``, each query searches all others.
        y : array-like of shape (n_samples,)
            Classes of the queries.
        max_rank : int, default=20
            Largest rank, reduced to the number of samples that are searched.
        reference : array-like of shape (n_reference_samples, n_components), default=None
            Embeddings to search instead.
        reference_y : array-like of shape (n_reference_samples,), default=None
            Classes of ``reference``. Required with ``reference``.
        groups : array-like of shape (n_samples,), default=None
            Groups of the queries, such as cameras. Matches of the query's own group are excluded.
        reference_groups : array-like of shape (n_reference_samples,), default=None
            Groups of ``reference``. Required with both ``groups`` and ``reference``.
        metric : {"euclidean", "cosine"}, default="euclidean"
            Distance.
        name : str, default=None
            Name of the curve in the legend.
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : CumulativeMatchDisplay
            Display with the plot.
        """
        ranks, recall = cumulative_match_characteristic_curve(
            embeddings,
            y,
            max_rank=max_rank,
            reference=reference,
            reference_y=reference_y,
            groups=groups,
            reference_groups=reference_groups,
            metric=metric,
        )
        return cls(ranks, recall, name=name).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Plot the curve; the legend reports the recall at rank 1.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        self : object
            Display with the plot.
        """
        ax = make_axes(ax)
        label = f"rank 1: {self.recall[0]:.1%}"
        if self.name is not None:
            label = f"{self.name} ({label})"
        ax.plot(self.ranks, self.recall, **{"marker": ".", "label": label, **kwargs})
        ax.set(xlabel="rank", ylabel="recall")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        ax.legend(loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self
