import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing

from sktriplet import Pairs
from sktriplet.recognition._pairs import as_pairs, check_pair_labels, pair_distances

INDICES = np.array([(0, 1), (4, 1), (4, 0), (2, 2), (0, 1)])
X = np.array([[0.0, 0], [3, 4], [1, 1], [9, 9], [0, 0]])
DISTANCES = [5, 5, 0, 0, 5]


def tables():
    return {
        "float": X,
        "integer": X.astype(int),
        "bytes": X.astype(np.uint8),
        "objects": X.astype(object),
        "list": X.tolist(),
        "pandas": pd.DataFrame(X, columns=["a", "b"]),
        "polars": pl.DataFrame({"a": X[:, 0], "b": X[:, 1]}),
        "csr": sparse.csr_matrix(X),
        "coo": sparse.coo_array(X),
        "images": X.reshape(5, 1, 2),
    }


class Embedder:
    """Return samples as vectors, and record how many there were."""

    def __init__(self):
        self.n_samples = 0

    def __call__(self, table):
        dense = table.toarray() if sparse.issparse(table) else np.asarray(table, dtype=float)
        self.n_samples += len(dense)
        return dense.reshape(len(dense), -1)


@pytest.mark.parametrize("name", tables())
def test_forms(name):
    table = tables()[name]
    embed = Embedder()
    forms = [Pairs(table, indices=INDICES), Pairs(table, table, indices=INDICES)]
    if name != "coo":
        left, right = (_safe_indexing(table, rows) for rows in INDICES.T)
        forms += [Pairs(left, right), (left, right)]
    if isinstance(table, np.ndarray):
        forms.append(np.stack([left, right], axis=1))
    for pairs in forms:
        distances, codes = pair_distances(pairs, embed)
        assert distances.tolist() == DISTANCES
        assert codes.shape == (5, 2)


def test_distinct_samples_are_embedded_once():
    """Of arrays also those that are equal, of other tables those in the same row."""
    for table, n_distinct in [(X, 3), (tables()["pandas"], 4), (tables()["csr"], 4)]:
        embed = Embedder()
        _, codes = pair_distances(Pairs(table, indices=INDICES), embed)
        assert embed.n_samples == n_distinct
        assert len(np.unique(codes)) == n_distinct
    for stacked in (X[INDICES], X.astype(np.float32)[INDICES], X.astype(np.uint8)[INDICES]):
        embed = Embedder()
        pair_distances(stacked, embed)
        assert embed.n_samples == 3


def test_array_is_embedded_alike_in_all_forms(rng):
    """The embedder receives the same samples in the same order."""
    received = []

    def embed(samples):
        received.append(samples)
        return samples

    table = rng.normal(size=(20, 3)).round()
    indices = rng.integers(20, size=(50, 2))
    left, right = table[indices].swapaxes(0, 1)
    for pairs in (table[indices], (left, right), Pairs(table, indices=indices)):
        distances, codes = pair_distances(pairs, embed)
        assert (distances == np.linalg.norm(left - right, axis=1)).all()
        assert (received[-1][codes] == table[indices]).all()
        assert (received[-1] == received[0]).all()


def test_texts():
    texts = [("a", "bb"), ("ccc", "a")]

    def embed(samples):
        received.append(len(samples))
        return np.array([[len(text)] for text in samples])

    received = []
    for pairs in (texts, np.array(texts), np.array(texts, dtype=object), pd.DataFrame(texts)):
        assert pair_distances(pairs, embed)[0].tolist() == [1, 2]
    assert pair_distances((["a", "ccc"], ["bb", "a"]), embed)[0].tolist() == [1, 2]
    assert received == [3, 3, 3, 3, 4]  # equal elements of lists are not searched


def test_two_tables_of_different_columns():
    """Tables that cannot be joined are embedded one after the other."""
    left = pd.DataFrame({"a": [1, 2]})
    right = pd.DataFrame({"a": [1, 5, 7]}, index=list("xyz"))
    embed = Embedder()
    distances, codes = pair_distances(Pairs(left, right, indices=[(0, 0), (1, 2)]), embed)
    assert distances.tolist() == [0, 5]
    assert codes.tolist() == [[0, 2], [1, 3]]
    assert embed.n_samples == 4


def test_indexing():
    pairs = Pairs(X, indices=INDICES)
    embed = Embedder()
    for key in (slice(1, 3), [1, 2], np.array([1, 2]), np.arange(5) % 3 == 1, 1):
        expected = np.array(DISTANCES)[key]
        assert pair_distances(pairs[key], embed)[0].tolist() == np.atleast_1d(expected).tolist()
    assert (len(pairs), len(pairs[:2]), pairs.shape) == (5, 2, (5, 2))
    assert repr(pairs) == "Pairs(n_pairs=5)"
    first, second, y_first, _ = train_test_split(pairs, DISTANCES, random_state=0)
    assert (len(first), len(second)) == (3, 2)
    assert pair_distances(first, embed)[0].tolist() == y_first
    assert as_pairs(pickle.loads(pickle.dumps(pairs))).shape == (5, 2)


@pytest.mark.parametrize("key", [(slice(None), 0), (0, 1)])
def test_single_samples_are_no_pairs(key):
    with pytest.raises(IndexError):
        Pairs(X, indices=INDICES)[key]


def test_objects_that_are_not_hashable():
    records = np.array([{"a": 1}, {"a": 4}], dtype=object)
    distances, _ = pair_distances(
        Pairs(records, indices=[(0, 1), (0, 0)]),
        lambda samples: np.array([[sample["a"]] for sample in samples]),
    )
    assert distances.tolist() == [3, 0]


def test_many_pairs_in_batches(rng):
    table = rng.normal(size=(300, 40))
    indices = np.column_stack(np.triu_indices(300, k=1))
    distances, _ = pair_distances(Pairs(table, indices=indices), Embedder())
    expected = np.linalg.norm(table[indices[:, 0]] - table[indices[:, 1]], axis=1)
    assert distances == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "indices", "match"),
    [
        ((X,), None, "need indices"),
        ((X, X[:3]), None, "same length. Got 5 and 3 rows"),
        ((X,), [0, 1], r"indices .*\(n_pairs, 2\). Got shape \(2,\)"),
        ((X,), [[0, 1, 2]], r"indices .*\(1, 3\)"),
        ((X,), [[0.0, 1.0]], "indices .*float64"),
        ((X,), [[True, False]], "indices .*bool"),
        ((X,), [[0, 5]], "indices .* 5 and 5 samples. Got 5"),
        ((X,), [[-1, 1]], "indices .* Got -1"),
        ((X, X[:3]), [[4, 3]], "indices .* 5 and 3 samples. Got 3"),
        (("Acme", "ACME"), None, "left must hold samples, .* Got 'Acme'"),
        ((["Acme"], "ACME"), [[0, 0]], "right must hold samples, .* Got 'ACME'"),
        (({"a": [1, 2]},), [[0, 1]], "left must hold samples"),
    ],
)
def test_invalid_pairs(arguments, indices, match):
    with pytest.raises(ValueError, match=match):
        Pairs(*arguments, indices=indices)


class TestCheckPairLabels:
    def test_valid(self):
        same = check_pair_labels([1, 0, True], 3)
        assert same.dtype == bool
        assert same.tolist() == [True, False, True]

    @pytest.mark.parametrize(
        ("y", "match"), [([1, 0], "2"), ([1, 2, 0], r"\[0, 1, 2\]"), (np.eye(3), "1d array")]
    )
    def test_invalid(self, y, match):
        with pytest.raises(ValueError, match=f"y .*{match}"):
            check_pair_labels(y, 3)
