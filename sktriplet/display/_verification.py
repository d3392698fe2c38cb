"""DET curve of verification."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from sktriplet._labels import check_labels
from sktriplet.display._axes import make_axes
from sktriplet.metrics._cluster_bootstrap import bootstrap_pair_weights
from sktriplet.metrics._verification import (
    check_pairs,
    error_rates,
    interpolate_equal_error_rate,
    weighted_error_rates,
)

N_BOOTSTRAPS = 200
N_BAND_POINTS = 200


class VerificationDisplay:
    """Detection error tradeoff (DET) curve with operating point and confidence band.

    It shows the false non-match rate (FNMR) over the false match rate (FMR) at all thresholds,
    on logarithmic axes, on which rates of zero are not visible.

    Parameters
    ----------
    fmr : ndarray of shape (n_thresholds,)
        Fraction of different-class pairs that are accepted at each threshold.
    fnmr : ndarray of shape (n_thresholds,)
        Fraction of same-class pairs that are rejected.
    equal_error_rate : float, default=None
        Equal error rate, for the legend.
    operating_point : tuple of float, default=None
        FMR and FNMR at the threshold in use.
    band : ndarray of shape (3, n_points), default=None
        FMR, and the limits of a confidence interval of the FNMR at it.
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
    sktriplet.metrics.equal_error_rate_score : Definition of the equal error rate.
    sklearn.metrics.DetCurveDisplay : Curve of a classifier, on axes of normal deviates.

    Examples
    --------
    >>> from sktriplet.display import VerificationDisplay
    >>> display = VerificationDisplay.from_predictions(
    ...     [1, 1, 1, 0, 0, 0], [-0.1, -0.2, -0.6, -0.4, -0.7, -0.8], threshold=0.3
    ... )
    >>> display.operating_point, display.equal_error_rate
    ((0.0, 0.333...), 0.333...)
    """

    def __init__(
        self,
        fmr: NDArray,
        fnmr: NDArray,
        *,
        equal_error_rate: float | None = None,
        operating_point: tuple[float, float] | None = None,
        band: NDArray | None = None,
        name: str | None = None,
    ):
        self.fmr = fmr
        self.fnmr = fnmr
        self.equal_error_rate = equal_error_rate
        self.operating_point = operating_point
        self.band = band
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        pairs: Any,
        y: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the curve and the operating point of a fitted verifier.

        Parameters
        ----------
        estimator : PairVerifier
            Fitted verifier.
        pairs : array-like of shape (n_pairs, 2, ...)
            Pairs of samples.
        y : array-like of shape (n_pairs,)
            True for pairs of the same class.
        classes : array-like of shape (n_pairs, 2), default=None
            Classes of both samples of each pair, to plot a confidence band.
        name : str, default=None
            Name of the curve. If None, that of the estimator's class.
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : VerificationDisplay
            Display with the plot.
        """
        return cls.from_predictions(
            y,
            estimator.decision_function(pairs),
            threshold=estimator.threshold_,
            classes=classes,
            name=type(estimator).__name__ if name is None else name,
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
        classes: ArrayLike | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the curve of decisions on pairs.

        The 95% confidence band consists of percentiles of the FNMR at each FMR over 200 samples
        of the classes, drawn with replacement with all their pairs. Pairs that share a class are
        not independent; a band from single pairs would be much too narrow.

        Parameters
        ----------
        y : array-like of shape (n_pairs,)
            True for pairs of the same class.
        decisions : array-like of shape (n_pairs,)
            Negative distances, as returned by :meth:`sktriplet.PairVerifier.decision_function`.
        threshold : float, default=None
            Largest distance at which a pair is predicted to be the same.
        classes : array-like of shape (n_pairs, 2), default=None
            Classes of both samples of each pair, to plot a confidence band.
        name : str, default=None
            Name of the curve in the legend.
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : VerificationDisplay
            Display with the plot.
        """
        is_genuine, scores = check_pairs(y, decisions, names=("y", "decisions"))
        if is_genuine.all() or not is_genuine.any():
            raise ValueError(
                "y must contain pairs of the same class and of different classes. "
                f"Got only {np.asarray(y)[0]}."
            )
        fmr, fnmr = error_rates(is_genuine, scores)
        operating_point = None
        if threshold is not None:
            accepted = -scores <= threshold
            operating_point = (
                float(np.mean(accepted[~is_genuine])),
                float(np.mean(~accepted[is_genuine])),
            )
        display = cls(
            fmr,
            fnmr,
            equal_error_rate=interpolate_equal_error_rate(fmr, fnmr),
            operating_point=operating_point,
            band=None if classes is None else _confidence_band(is_genuine, scores, classes),
            name=name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Plot the curve; the legend reports the equal error rate and the operating point.

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
        ax.set(xscale="log", yscale="log")
        texts = [] if self.name is None else [self.name]
        if self.equal_error_rate is not None:
            texts.append(f"EER {self.equal_error_rate:.1%}")
        (line,) = ax.plot(self.fmr, self.fnmr, **{"label": ", ".join(texts) or None, **kwargs})
        color = line.get_color()
        if self.band is not None:
            ax.fill_between(*self.band, color=color, alpha=0.2, linewidth=0)
        if self.operating_point is not None:
            fmr, fnmr = self.operating_point
            label = f"threshold: FMR {fmr:.2%}, FNMR {fnmr:.1%}"
            ax.plot(fmr, fnmr, "o", color=color, markeredgecolor="black", label=label)
        ax.set(xlabel="false match rate", ylabel="false non-match rate")
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(loc="lower left")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _confidence_band(
    is_genuine: NDArray[np.bool_], scores: NDArray[np.float64], classes: ArrayLike
) -> NDArray[np.float64]:
    """Return FMR values, and the 95% percentile interval of the FNMR at each of them."""
    labels = np.asarray(classes)
    if labels.ndim != 2 or labels.shape[1] != 2:
        raise ValueError(f"classes must have shape (n_pairs, 2). Got shape {labels.shape}.")
    check_consistent_length(scores, labels)
    labels = check_labels(labels.ravel(), "classes")
    codes = np.unique(labels, return_inverse=True)[1].reshape(-1, 2)
    if ((codes[:, 0] == codes[:, 1]) != is_genuine).any():
        raise ValueError("classes must be equal in those pairs that y labels as the same class.")
    fmr = np.geomspace(1 / np.sum(~is_genuine), 1, N_BAND_POINTS)
    weights = bootstrap_pair_weights(codes, N_BOOTSTRAPS, np.random.default_rng(0))
    fnmr = [
        np.interp(fmr, drawn_fmr[::-1], drawn_fnmr[::-1])
        for drawn_fmr, drawn_fnmr in weighted_error_rates(is_genuine, scores, weights)
    ]
    # A sample of the classes may have no pairs of one type; its rates are NaN.
    return np.vstack([fmr, np.nanpercentile(fnmr, [2.5, 97.5], axis=0)])
