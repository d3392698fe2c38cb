"""HTML page with an interactive scatter plot of embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sktriplet._labels import find_missing
from sktriplet._table_encoder import columns_of, kind_of, to_floats
from sktriplet.display._neighbors import find_nearest
from sktriplet.display._thumbnails import encode_thumbnails

TEMPLATE, SCRIPT = (Path(__file__).with_name(f"_embedding_page.{kind}") for kind in ("html", "js"))
# As in the static plot, ten colors are combined with six markers. Symbols are for the legend.
MARKERS = {
    "circle": "●",
    "triangle": "▲",
    "square": "■",
    "diamond": "◆",
    "inverted_triangle": "▼",
    "plus": "✚",
}


def make_page(
    points: NDArray,
    y: NDArray,
    embeddings: NDArray,
    *,
    images: Any = None,
    hover_data: Any = None,
    n_neighbors: int = 8,
    title: str = "Embedding",
    axis_labels: tuple[str, str] = ("", ""),
) -> str:
    """Return an HTML page that contains everything it needs.

    Parameters are those of `EmbeddingDisplay.write_html`.
    """
    try:
        import PIL  # noqa: F401  (encodes thumbnails)
        from bokeh.document import Document
        from bokeh.embed import file_html
        from bokeh.events import DocumentReady
        from bokeh.models import ColumnDataSource, CustomJS
        from bokeh.palettes import Category10_10
        from bokeh.plotting import figure
        from bokeh.resources import INLINE
    except ImportError as error:
        raise ImportError(
            "EmbeddingDisplay.write_html needs bokeh and pillow: pip install sktriplet[interactive]"
        ) from error

    neighbors = find_nearest(embeddings, np.arange(len(embeddings)), n_neighbors)
    classes, codes = np.unique(y, return_inverse=True)
    plot = figure(
        name="map",
        # Software rendering of WebGL, on machines without a GPU, is a hundred times slower.
        output_backend="canvas",
        sizing_mode="stretch_both",
        match_aspect=True,
        tools="pan,wheel_zoom,box_zoom,reset,save",
        active_scroll="wheel_zoom",
        x_axis_label=axis_labels[0],
        y_axis_label=axis_labels[1],
    )
    plot.toolbar.logo = None
    styles = [(color, marker) for marker in MARKERS for color in Category10_10]
    size = float(np.clip(200 / len(points) ** 0.5, 3, 8))
    groups = []
    for number, (color, marker) in enumerate(styles[: len(classes)]):
        rows = np.flatnonzero(codes % len(styles) == number).astype(np.uint32)
        x, y_axis = points[rows].T.astype(np.float32)
        source = ColumnDataSource({"x": x, "y": y_axis, "row": rows})
        look: dict[str, Any] = {"size": size, "color": color, "marker": marker, "line_color": None}
        groups.append(plot.scatter("x", "y", source=source, fill_alpha=0.7, **look))
    lines = ColumnDataSource({name: [] for name in ("x0", "y0", "x1", "y1")})
    plot.segment("x0", "y0", "x1", "y1", source=lines, color="#333", alpha=0.6)
    rings = ColumnDataSource({"x": [], "y": []})
    plot.scatter(
        "x", "y", source=rings, size=size + 7, fill_alpha=0, line_color="black", line_width=1.5
    )
    thumbnails: list[str] = []
    positions = np.full(len(points), -1, np.int32)
    if images is not None:
        thumbnails, positions = encode_thumbnails(images)
    names, features = _hover_columns(hover_data)
    sample = ColumnDataSource({"code": codes.astype(np.uint32), "thumbnail": positions, **features})
    distances = _distances(embeddings, neighbors)
    graph = ColumnDataSource(
        {"neighbor": neighbors.astype(np.uint32).ravel(), "distance": distances.ravel()}
    )
    data = {
        "figure": plot,
        "groups": groups,
        "lines": lines,
        "rings": rings,
        "sample": sample,
        "graph": graph,
        "labels": [str(label) for label in classes],
        "names": names,
        "thumbnails": thumbnails,
        "symbols": [symbol for symbol in MARKERS.values() for _ in Category10_10],
    }
    document = Document(title=title)
    document.add_root(plot)
    document.js_on_event(DocumentReady, CustomJS(args=data, code=SCRIPT.read_text("utf-8")))
    return file_html(
        document,
        INLINE,
        title,
        template=TEMPLATE.read_text("utf-8"),
        template_variables={
            "summary": f"{len(points):,} samples of {len(classes):,} classes. "
            "Drag to pan, scroll to zoom, hover for details."
        },
    )


def _distances(embeddings: NDArray, neighbors: NDArray) -> NDArray[np.float32]:
    """Return the distance of each sample to each of its neighbors."""
    distances = [np.linalg.norm(embeddings - embeddings[others], axis=1) for others in neighbors.T]
    return np.column_stack(distances).astype(np.float32)


def _hover_columns(hover_data: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the names of columns, and numbers as arrays, or other values as text."""
    if hover_data is None:
        return [], {}
    names: list[str] = []
    features: dict[str, Any] = {}
    for name, column in columns_of(hover_data):
        names.append(str(name))
        if kind_of(column) == "number":
            values: Any = to_floats(column)
            single = values.astype(np.float32)
            if np.array_equal(single, values, equal_nan=True):
                values = single
        else:
            items = np.asarray(column, dtype=object)
            is_missing = find_missing(items)
            values = ["" if no else str(item) for item, no in zip(items, is_missing, strict=True)]
        features[f"feature_{len(features)}"] = values
    return names, features
