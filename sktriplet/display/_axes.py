"""Matplotlib axes and colors shared by the displays.

matplotlib is optional, so it is imported only when a figure is created.
"""

from typing import Any

# Bluish green and vermilion, which people with any type of color vision distinguish
# (Okabe and Ito, "Color Universal Design", 2008).
CORRECT, INCORRECT = "#009E73", "#D55E00"


def make_axes(ax: Any) -> Any:
    """Return ``ax``, or the axes of a new figure if it is None."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def make_grid(
    ax: Any,
    shape: tuple[int, int],
    figsize: tuple[float, float],
    *,
    hspace: float,
    sharex: bool = False,
) -> Any:
    """Subdivide ``ax``, or a new figure of size ``figsize`` if it is None."""
    if ax is None:
        import matplotlib.pyplot as plt

        grid = plt.figure(figsize=figsize, layout="constrained").add_gridspec(*shape)
    elif ax.get_subplotspec() is None:
        raise ValueError("ax must be a subplot of a figure. Got axes created by add_axes.")
    else:
        ax.axis("off")
        grid = ax.get_subplotspec().subgridspec(*shape, hspace=hspace)
    return grid.subplots(sharex=sharex, squeeze=False)
