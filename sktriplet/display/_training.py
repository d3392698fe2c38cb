"""TODO."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sktriplet.display._axes import RIGHT, _stacked_axes


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
