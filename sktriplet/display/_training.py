"""Training curves."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sktriplet.display._axes import CORRECT, make_grid

# Keys of the history in each panel, by the label of its y axis.
PANELS = {
    "loss": ["train_loss"],
    "fraction": ["triplet_fraction", "active_fraction"],
    "validation score": ["validation_score"],
}
LEGEND = {"triplet_fraction": "pairs with a triplet", "active_fraction": "nonzero loss"}


class TrainingDisplay:
    """Loss, mining statistics and validation score of each epoch.

    Parameters
    ----------
    history : list of dict
        One dict per epoch, such as the ``history_`` of a fitted
        :class:`~sktriplet.TripletEmbedder`. Plotted are ``train_loss``,
        ``triplet_fraction``, ``active_fraction`` and ``validation_score``, if present,
        against ``epoch``. One of the two fractions is left out if it is always one, as that of
        the triplets with a positive loss is with semi-hard mining.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes
        Panels from top to bottom.
    figure_ : matplotlib Figure
        Figure that contains the panels.

    Examples
    --------
    >>> from sktriplet.display import TrainingDisplay
    >>> display = TrainingDisplay([{"train_loss": 0.5}, {"train_loss": 0.2}]).plot()
    >>> [panel.get_ylabel() for panel in display.ax_]
    ['loss']
    """

    def __init__(self, history: Sequence[Mapping[str, float]]):
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Plot the ``history_`` of a fitted estimator.

        Parameters
        ----------
        estimator : estimator instance
            Fitted estimator.
        ax : matplotlib Axes, default=None
            Axes to subdivide. If None, a new figure is created.

        Returns
        -------
        display : TrainingDisplay
            Display with the plot.
        """
        return cls.from_predictions(estimator.history_, ax=ax)

    @classmethod
    def from_predictions(cls, history: Sequence[Mapping[str, float]], *, ax: Any = None) -> Self:
        """Plot a training history.

        Parameters
        ----------
        history : list of dict
            One dict per epoch.
        ax : matplotlib Axes, default=None
            Axes to subdivide. If None, a new figure is created.

        Returns
        -------
        display : TrainingDisplay
            Display with the plot.
        """
        return cls(history).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Plot one panel for each recorded quantity, and mark the best validation score.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to subdivide. If None, a new figure is created.

        Returns
        -------
        self : object
            Display with the plot.
        """
        panels = self._recorded_panels()
        figsize = 6.4, 1 + 1.9 * len(panels)
        axes = make_grid(ax, (len(panels), 1), figsize, hspace=0.15, sharex=True)[:, 0]
        epochs = [epoch.get("epoch", i) for i, epoch in enumerate(self.history, start=1)]
        for panel, (ylabel, curves) in zip(axes, panels.items(), strict=True):
            for key, values in curves.items():
                panel.plot(epochs, values, marker=".", label=LEGEND.get(key))
            if "validation_score" in curves:
                best = np.nanargmax(values)
                panel.plot(epochs[best], values[best], "o", color=CORRECT, label="best epoch")
            if panel.get_legend_handles_labels()[1]:
                panel.legend(frameon=False)
            panel.set_ylabel(ylabel)
            panel.grid(alpha=0.3)
        axes[-1].set_xlabel("epoch")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _recorded_panels(self) -> dict[str, dict[str, NDArray]]:
        """Return the curves of each panel, without those that have no values."""
        panels: dict[str, dict[str, NDArray]] = {}
        for ylabel, keys in PANELS.items():
            for key in keys:
                values = np.array([epoch.get(key, np.nan) for epoch in self.history], dtype=float)
                if not np.isnan(values).all():
                    panels.setdefault(ylabel, {})[key] = values
        fractions = panels.get("fraction", {})
        for key in reversed(list(fractions)):  # A constant tells less than the other one.
            if len(fractions) > 1 and np.nanmin(fractions[key]) == 1:
                del fractions[key]
        if not panels:
            keys = [key for keys in PANELS.values() for key in keys]
            got = sorted({key for epoch in self.history for key in epoch}) or "no epochs"
            raise ValueError(f"history must contain one of {', '.join(keys)}. Got {got}.")
        return panels
