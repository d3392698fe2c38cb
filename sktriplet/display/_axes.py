"""Pictures of embeddings, of training and of what is found, as scikit-learn's displays.

Each has ``from_estimator`` and ``from_predictions``; both draw at once, and the display that
they return can draw again on other axes with ``plot``. matplotlib is needed only then.
"""

from typing import Any

RIGHT, WRONG = "tab:green", "tab:red"


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
