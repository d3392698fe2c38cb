"""The interactive page: what it contains, and that it stands alone."""

import base64
import gzip
import html
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import NearestNeighbors

from sktriplet.display import EmbeddingDisplay

HOSTILE = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """Elements of a page, and the document that Bokeh loads."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.links = [], [], []
        self.feed(text)
        self.close()
        found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
        (content,) = json.loads(html.unescape(found[1])).values()
        (callback,) = dict(content["callbacks"]["entries"])["document_ready"]
        self.callback = callback["attributes"]
        self.models = {}
        self._collect(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self.lasttag == "script":
            self.scripts.append(data)

    def _collect(self, item):
        if isinstance(item, dict):
            if "attributes" in item and "id" in item:
                self.models[item["id"]] = item
            for part in item.values():
                self._collect(part)
        elif isinstance(item, list):
            for part in item:
                self._collect(part)

    @property
    def args(self):
        return {name: _decoded(value) for name, value in self.callback["args"]["entries"]}

    def columns(self, name):
        return columns_of(self.models[self.args[name]["id"]])


def columns_of(source):
    """The columns of a source in the JSON of a document."""
    entries = source["attributes"]["data"]["entries"]
    return {name: _decoded(values) for name, values in entries}


def _decoded(values):
    """Decode an array, which Bokeh may compress, and encodes in base64."""
    if not (isinstance(values, dict) and values.get("type") == "ndarray"):
        return values
    dtype = np.dtype(values["dtype"]).newbyteorder({"little": "<", "big": ">"}[values["order"]])
    data = base64.b64decode(values["array"]["data"])
    return np.frombuffer(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data, dtype)


@pytest.fixture
def make_page(tmp_path):
    """Return a function that writes and parses a page."""
    pytest.importorskip("bokeh")

    def make_page(embeddings, y, **parameters):
        display = EmbeddingDisplay.from_predictions(embeddings, y)
        display.write_html(tmp_path / "page.html", **parameters)
        return Page((tmp_path / "page.html").read_text(encoding="utf-8"))

    return make_page


def test_points_and_classes(iris, make_page):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    page = make_page(X, names)
    assert page.args["labels"] == ["setosa", "versicolor", "virginica"]
    assert_array_equal(page.columns("sample")["code"], y)
    points = EmbeddingDisplay.from_predictions(X, y).points
    for label, group in enumerate(page.args["groups"]):
        renderer = page.models[group["id"]]
        source = columns_of(page.models[renderer["attributes"]["data_source"]["id"]])
        assert_array_equal(source["row"], np.flatnonzero(y == label))
        assert_allclose(np.column_stack([source["x"], source["y"]]), points[y == label], atol=1e-5)


def test_neighbors_are_those_in_the_embedding(rng, make_page):
    """They differ from those in the plot, which shows two of ten components."""
    X = rng.normal(size=(100, 10))
    page = make_page(X, np.arange(100) % 3, n_neighbors=4)
    distances, indices = NearestNeighbors(n_neighbors=4).fit(X).kneighbors()
    graph = page.columns("graph")
    assert_array_equal(graph["neighbor"].reshape(100, 4), indices)
    assert_allclose(graph["distance"].reshape(100, 4), distances, rtol=1e-5)


def test_many_classes_share_groups(rng, make_page):
    y = np.arange(200) % 100
    page = make_page(rng.normal(size=(200, 2)), y)
    groups = [page.models[group["id"]] for group in page.args["groups"]]
    rows = [
        columns_of(page.models[group["attributes"]["data_source"]["id"]])["row"] for group in groups
    ]
    assert len(rows) == 60
    assert_array_equal(np.sort(np.concatenate(rows)), range(200))
    assert all(len(set(y[group] % 60)) == 1 for group in rows)


def test_hover_data(iris, make_page):
    X, y = iris
    frame = pd.DataFrame(
        {
            "length": X[:, 0],
            "count": np.arange(150),
            "missing": np.where(y == 0, np.nan, 1e9 + 1),
            "text": pd.Series(["a", None, HOSTILE] * 50),
        }
    )
    page = make_page(X, y, hover_data=frame)
    assert page.args["names"] == ["length", "count", "missing", "text"]
    sample = page.columns("sample")
    for position, name in enumerate(["length", "count", "missing"]):
        assert_array_equal(sample[f"feature_{position}"], frame[name])
    assert sample["feature_3"] == ["a", "", HOSTILE] * 50


def test_thumbnails(digits, make_page):
    X, y = digits
    page = make_page(X[:50], y[:50], images=X[:50])
    assert len(page.args["thumbnails"]) == 50
    assert_array_equal(page.columns("sample")["thumbnail"], range(50))


def test_hostile_text(iris, make_page):
    """It ends no script and starts no element."""
    X, y = iris
    harmless = make_page(X, y, title="title")
    names = np.array([HOSTILE, "<img src=x>", "&lt;"], dtype=object)[y]
    frame = pd.DataFrame({HOSTILE: [HOSTILE] * 150})
    page = make_page(X, names, title=HOSTILE, hover_data=frame)
    assert page.tags == harmless.tags
    assert sorted(page.args["labels"]) == sorted([HOSTILE, "<img src=x>", "&lt;"])
    assert page.args["names"] == [HOSTILE]


def test_needs_no_network(iris, make_page):
    page = make_page(*iris)
    assert page.links == []
    assert "http" not in page.callback["code"]


def test_replaces_a_file(iris, tmp_path):
    pytest.importorskip("bokeh")
    display = EmbeddingDisplay.from_predictions(*iris)
    path = str(tmp_path / "page.html")
    for title in ("first", "second"):
        assert display.write_html(path, title=title) is None
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "second" in text
    assert "first</h1>" not in text


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"n_neighbors": 150}, "n_neighbors must be at least 1 and less than n_samples=150"),
        ({"images": np.zeros((3, 8, 8))}, r"inconsistent numbers of samples: \[150, 3\]"),
        ({"hover_data": np.zeros((4, 8))}, r"inconsistent numbers of samples: \[150, 4\]"),
        ({"images": np.zeros((150, 7))}, r"images must have shape"),
    ],
)
def test_errors(parameters, match, iris, make_page, tmp_path):
    with pytest.raises(ValueError, match=match):
        make_page(*iris, **parameters)
    assert not list(tmp_path.iterdir())


def test_error_without_bokeh(iris, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bokeh.embed", None)
    display = EmbeddingDisplay.from_predictions(*iris)
    with pytest.raises(
        ImportError, match=r"bokeh and pillow: pip install sktriplet\[interactive\]"
    ):
        display.write_html(tmp_path / "page.html")
