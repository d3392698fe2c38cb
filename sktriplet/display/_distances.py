"""TODO."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, column_or_1d

from sktriplet.display._axes import _axes


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
