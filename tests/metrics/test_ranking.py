"""The order in which neighbours are found. What is counted there is tested with the metrics."""

import numpy as np
import pytest

from sktriplet.metrics._ranking import Search


def search(embeddings, y, **settings):
    settings = {"metric": "euclidean", "name": "score", "ordered": True, **settings}
    others = dict.fromkeys(["reference", "reference_y", "groups", "reference_groups"])
    return Search.of(embeddings, y, **(others | settings))


def relevance(searched, n_ranks):
    """Of each query in its place, whether its i-th nearest is a match."""
    rows = np.empty((len(searched.n_matches), n_ranks), dtype=bool)
    everyone = np.arange(len(rows))
    for chunk, relevant in searched.relevance_by_rank(everyone, np.full(len(rows), n_ranks)):
        rows[chunk] = relevant
    return rows


@pytest.mark.parametrize("n_ranks", [1, 4, 59])
def test_the_order_is_that_of_distance_and_index(rng, n_ranks):
    """Also where rows are equal, or nearly."""
    embeddings = rng.normal(size=(60, 3))
    embeddings[rng.integers(60, size=20)] = embeddings[0]
    embeddings[50:] = embeddings[40:50] + 1e-9 * rng.normal(size=(10, 3))
    y = rng.integers(4, size=60)
    found = relevance(search(embeddings, y), n_ranks)
    for query in range(60):
        distances = ((embeddings - embeddings[query]) ** 2).sum(axis=1)
        order = [row for row in np.lexsort((np.arange(60), distances)) if row != query]
        assert found[query].tolist() == (y[order[:n_ranks]] == y[query]).tolist()


def test_how_many_matches_there_are(rng):
    y, groups = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 0, 1, 0])
    embeddings = rng.normal(size=(6, 2))
    assert search(embeddings, y).n_matches.tolist() == [2, 2, 2, 1, 1, 0]
    assert search(embeddings, y, groups=groups).n_matches.tolist() == [1, 1, 2, 1, 1, 0]
    elsewhere = search(embeddings, y, reference=embeddings[:2], reference_y=[0, 2])
    assert elsewhere.n_matches.tolist() == [1, 1, 1, 0, 0, 1]
