"""Contributions of features, or pixels, to the distance between two samples."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from sktriplet._table_encoder import columns_of
from sktriplet.display._axes import make_axes, make_grid
from sktriplet.display._neighbors import CHANNELS
from sktriplet.inspection import distance_contributions

# Blue and orange, which people with any type of color vision distinguish.
CLOSER, APART = "C0", "C1"


class DistanceContributionsDisplay:
    """Contributions of features, or pixels, to the squared distance between two samples.

    Positive contributions move the embeddings of both samples apart, negative ones move them closer
    together. They add up to the squared distance.

    Parameters
    ----------
    contributions : ndarray of shape (n_features,), (channels, length) or (height, width, channels)
        Contributions of the columns of a table, the values of a sequence, or those of an image.
    left, right : sequence or ndarray of the same shape
        Values of both samples.
    feature_names : sequence of str, default=None
        Names of the features of a table. By default, "x0", "x1", ...

    Attributes
    ----------
    ax_ : matplotlib Axes, or ndarray of them
        Axes with the bars of a table; with the panels of a sequence or an image.
    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    sktriplet.inspection.distance_contributions : Computes the contributions for many pairs.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktriplet import TripletEmbedder
    >>> from sktriplet.display import DistanceContributionsDisplay
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> embedder = TripletEmbedder(max_epochs=5, random_state=0).fit(X, y)
    >>> display = DistanceContributionsDisplay.from_estimator(embedder, X[:1], X[50:51])
    >>> display.contributions.shape
    (4,)
    """

    def __init__(
        self,
        contributions: NDArray,
        left: Any,
        right: Any,
        *,
        feature_names: Sequence[str] | None = None,
    ):
        self.contributions = contributions
        self.left = left
        self.right = right
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        embedder: Any,
        left: Any,
        right: Any,
        *,
        tol: float = 1e-3,
        ax: Any = None,
        max_features: int = 10,
    ) -> Self:
        """Plot the contributions to the distance between two samples.

        Parameters
        ----------
        embedder : TripletEmbedder
            Fitted embedder, as in :func:`~sktriplet.inspection.distance_contributions`.
        left, right : array-like of shape (1, ...)
            One sample each, in any layout that ``transform`` accepts.
        tol : float, default=1e-3
            Tolerance, relative to the squared distance.
        ax : matplotlib Axes, default=None
            Axes to plot on, or to subdivide. If None, a new figure is created.
        max_features : int, default=10
            Number of features of a table to show. The others share a bar.

        Returns
        -------
        display : DistanceContributionsDisplay
            Display with the plot.
        """
        result = distance_contributions(embedder, left, right, tol=tol)
        if isinstance(result.contributions, dict):
            raise ValueError(
                "left and right must have one input. Got a dict of several inputs: pass the "
                "contributions and the values of one of them to DistanceContributionsDisplay."
            )
        if len(result.contributions) != 1:
            raise ValueError(
                "left and right must hold one sample each. Got "
                f"{len(result.contributions)}: pass X[i : i + 1]."
            )
        shape = getattr(embedder, "estimator_", embedder).input_shape_
        if len(shape) > 1:
            parts = [_standard_layout(np.asarray(item[0]), shape) for item in (left, right)]
            values = _standard_layout(result.contributions[0], shape)
            return cls(values, *parts).plot(ax=ax)
        left, right = (item.toarray() if issparse(item) else item for item in (left, right))
        rows = [[np.asarray(column)[0] for _, column in columns_of(item)] for item in (left, right)]
        names = [str(name) for name in left.columns] if hasattr(left, "columns") else None
        display = cls(result.contributions[0], *rows, feature_names=names)
        return display.plot(ax=ax, max_features=max_features)

    def plot(self, *, ax: Any = None, max_features: int = 10) -> Self:
        """Plot the contributions.

        Features of a table are sorted by the sizes of their contributions. A sequence has a panel
        per channel. An image is shown with the other one and the sums over the channels.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on, or to subdivide. If None, a new figure is created.
        max_features : int, default=10
            Number of features of a table to show. The others share a bar.

        Returns
        -------
        self : object
            Display with the plot.
        """
        plots = {1: self._plot_table, 2: self._plot_sequence, 3: self._plot_image}
        self.ax_ = plots[self.contributions.ndim](ax, max_features)
        self.figure_ = np.ravel(self.ax_)[0].figure
        return self

    def _plot_table(self, ax: Any, max_features: int) -> Any:
        ax = make_axes(ax)
        values, n_features = self.contributions, len(self.contributions)
        names = self.feature_names or [f"x{i}" for i in range(n_features)]
        order = np.argsort(-np.abs(values), kind="stable")
        shown, others = order[:max_features], order[max_features:]
        lengths = values[shown].tolist()
        labels = [f"{names[i]}: {_text(self.left[i])} → {_text(self.right[i])}" for i in shown]
        if len(others):
            lengths.append(values[others].sum())
            labels.append(f"{len(others)} other features")
        colors = [APART if length > 0 else CLOSER for length in lengths]
        ax.barh(range(len(lengths)), lengths, color=colors)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_yticks(range(len(lengths)), labels)
        ax.invert_yaxis()
        ax.set(xlabel="contribution to the squared distance", title=self._title())
        return ax

    def _plot_sequence(self, ax: Any, max_features: int) -> NDArray:
        n_channels, length = self.contributions.shape
        figsize = 7, 1 + 1.6 * n_channels
        axes = make_grid(ax, (n_channels, 1), figsize, hspace=0.2, sharex=True)[:, 0]
        for channel, panel in enumerate(axes):
            panel.plot(self.left[channel], color="black", label="left")
            panel.plot(self.right[channel], color="gray", linestyle="--", label="right")
            low, high = panel.get_ylim()
            extent = (-0.5, length - 0.5, low, high)
            style = self._colors(self.contributions)
            mesh = panel.imshow(
                self.contributions[[channel]], extent=extent, aspect="auto", alpha=0.6, **style
            )
        axes[0].set_title(self._title())
        axes[0].legend(loc="upper right")
        axes[-1].set_xlabel("position")
        axes[0].figure.colorbar(mesh, ax=list(axes), label="contribution")
        return axes

    def _plot_image(self, ax: Any, max_features: int) -> NDArray:
        axes = make_grid(ax, (1, 3), (8, 3), hspace=0.2)[0]
        for panel, image, title in zip(
            axes, (self.left, self.right), ("left", "right"), strict=False
        ):
            # matplotlib cannot show other numbers of channels.
            is_color = image.shape[2] in CHANNELS
            panel.imshow(image if is_color else image.mean(axis=2), cmap="gray")
            panel.set_title(title)
        total = self.contributions.sum(axis=2)
        mesh = axes[2].imshow(total, **self._colors(total))
        axes[2].set_title(self._title())
        axes[2].figure.colorbar(mesh, ax=axes[2], label="contribution")
        for panel in axes:
            panel.set(xticks=[], yticks=[])
        return axes

    def _colors(self, values: NDArray) -> dict[str, Any]:
        limit = float(np.abs(values).max()) or 1.0
        return {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit}

    def _title(self) -> str:
        return f"squared distance {self.contributions.sum():.3g}"


def _standard_layout(values: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Return a sample as an image (height, width, channels) or a sequence (channels, length)."""
    channels, *sides = shape
    if values.shape == (*sides, channels) and values.shape != tuple(shape):
        values = np.moveaxis(values, -1, 0)
    values = values.reshape(shape)
    return np.moveaxis(values, 0, -1) if len(shape) == 3 else values


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
