"""Histograms of pair distances."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, column_or_1d

from sktriplet.display._axes import make_axes


class DistanceDisplay:
    """Histograms of the distances of same-class pairs and of different-class pairs.

    Parameters
    ----------
    distances : ndarray of shape (n_pairs,)
        Distance between the two samples of each pair.
    same : ndarray of shape (n_pairs,)
        True for pairs of the same class.
    threshold : float, default=None
        Largest distance at which a pair is predicted to be the same. If given, it is plotted
        and the error rates are shown.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure that contains the axes.

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
    ) -> Self:
        """Plot the distances and the threshold of a fitted verifier.

        Parameters
        ----------
        estimator : PairVerifier
            Fitted verifier.
        pairs : array-like of shape (n_pairs, 2, ...)
            Pairs of samples.
        y : array-like of shape (n_pairs,)
            True for pairs of the same class.
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : DistanceDisplay
            Display with the plot.
        """
        decisions = estimator.decision_function(pairs)
        return cls.from_predictions(y, decisions, threshold=estimator.threshold_, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        decisions: ArrayLike,
        *,
        threshold: float | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot distances.

        Parameters
        ----------
        y : array-like of shape (n_pairs,)
            True for pairs of the same class.
        decisions : array-like of shape (n_pairs,)
            Negative distances, as returned by :meth:`sktriplet.PairVerifier.decision_function`.
        threshold : float, default=None
            Largest distance at which a pair is predicted to be the same.
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : DistanceDisplay
            Display with the plot.
        """
        same, distances = column_or_1d(y), -column_or_1d(decisions)
        check_consistent_length(same, distances)
        if not np.isin(same, [0, 1]).all():
            got = np.unique(same)[:5].tolist()
            raise ValueError(f"y must contain only True and False, or 1 and 0. Got {got}.")
        return cls(distances, same.astype(bool), threshold=threshold).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Plot one histogram per type of pair, each with unit area.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        self : object
            Display with the plot.
        """
        ax = make_axes(ax)
        bins = np.histogram_bin_edges(self.distances, bins=60)
        style = {"bins": bins, "density": True, "alpha": 0.6}
        for is_same, color, name in [(True, "C0", "same"), (False, "C1", "different")]:
            distances = self.distances[self.same == is_same]
            if not len(distances):
                continue
            label = f"{name} ({len(distances):,} pairs)"
            if self.threshold is not None:
                errors = np.mean((distances <= self.threshold) != is_same)
                label += f", {errors:.1%} errors"
            ax.hist(distances, label=label, **{"color": color, **style, **kwargs})
        if self.threshold is not None:
            label = f"threshold {self.threshold:.3g}"
            ax.axvline(self.threshold, color="black", linestyle="--", label=label)
        ax.set(xlabel="distance", ylabel="density")
        ax.margins(y=0.3)
        ax.legend(loc="upper right", framealpha=0.9)
        self.ax_, self.figure_ = ax, ax.figure
        return self
