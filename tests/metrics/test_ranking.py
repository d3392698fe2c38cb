"""The order of neighbors. The scores computed from it are tested in ``test_retrieval.py``."""

import numpy as np
import pytest

from sktriplet.metrics._ranking import NeighborRanking, _ambiguous_groups, _near_tie_groups

ARRAYS = ("reference", "reference_y", "groups", "reference_groups")


def make_ranking(embeddings, y, *, ordered=True, **arrays):
    others = [arrays.get(name) for name in ARRAYS]
    return NeighborRanking.from_arrays(embeddings, y, *others, metric="euclidean", ordered=ordered)


def rank_all(ranking, n_ranks):
    """Return whether the i-th nearest neighbors are matches, in the order of the queries."""
    n_queries = len(ranking.n_matches)
    relevant = np.empty((n_queries, n_ranks), dtype=bool)
    ranks = np.full(n_queries, n_ranks)
    for chunk, of_chunk in ranking.relevance_by_rank(np.arange(n_queries), ranks):
        relevant[chunk] = of_chunk
    return relevant


@pytest.fixture
def near_duplicates(rng):
    """Embeddings with equal samples and with samples 1e-9 apart, and labels."""
    embeddings = rng.normal(size=(60, 3))
    embeddings[rng.integers(60, size=20)] = embeddings[0]
    embeddings[50:] = embeddings[40:50] + 1e-9 * rng.normal(size=(10, 3))
    return embeddings, rng.integers(4, size=60)


def relevance_by_sorting(embeddings, y, n_ranks):
    """Sort by distance and index, query by query."""
    relevant = []
    for query in range(len(y)):
        distances = ((embeddings - embeddings[query]) ** 2).sum(axis=1)
        order = np.lexsort((np.arange(len(y)), distances))
        relevant.append((y[order[order != query]] == y[query])[:n_ranks])
    return np.array(relevant)


@pytest.mark.parametrize("n_ranks", [1, 4, 59])
def test_relevance_by_rank_is_in_exact_order(near_duplicates, n_ranks):
    found = rank_all(make_ranking(*near_duplicates), n_ranks)
    assert (found == relevance_by_sorting(*near_duplicates, n_ranks)).all()


@pytest.mark.parametrize("n_ranks", [1, 4, 59])
def test_relevance_by_rank_without_order(near_duplicates, n_ranks):
    """The nearest neighbors are the same, in any order."""
    found = rank_all(make_ranking(*near_duplicates, ordered=False), n_ranks)
    expected = relevance_by_sorting(*near_duplicates, n_ranks)
    assert (found.sum(axis=1) == expected.sum(axis=1)).all()


@pytest.mark.parametrize("spread", [1e-4, 1e-3, 1e-2])
def test_relevance_by_rank_despite_rounding_errors(spread, rng):
    """Distances that single precision distinguishes, but not always in the correct order."""
    embeddings = spread * rng.normal(size=(150, 8))
    embeddings[:2] = [[-1], [1]]
    y = rng.integers(4, size=150)
    found = rank_all(make_ranking(embeddings, y), 149)
    assert (found == relevance_by_sorting(embeddings, y, 149)).all()


def test_relevance_by_rank_of_excluded_references_is_false(near_duplicates, rng):
    ranking = make_ranking(*near_duplicates, groups=rng.integers(3, size=60))
    assert (rank_all(ranking, 60).sum(axis=1) == ranking.n_matches).all()


def test_relevance_by_rank_is_false_beyond_n_ranks():
    ranking = make_ranking(np.arange(5.0)[:, None], [0] * 5)
    ((chunk, relevant),) = ranking.relevance_by_rank(np.array([2, 0]), np.array([3, 0, 1, 0, 0]))
    assert chunk.tolist() == [2, 0]
    assert relevant.tolist() == [[True, False, False], [True, True, True]]


def test_n_matches(rng):
    y, groups = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 0, 1, 0])
    embeddings = rng.normal(size=(6, 2))
    assert make_ranking(embeddings, y).n_matches.tolist() == [2, 2, 2, 1, 1, 0]
    assert make_ranking(embeddings, y, groups=groups).n_matches.tolist() == [1, 1, 2, 1, 1, 0]
    reference = {"reference": embeddings[:2], "reference_y": [0, 2]}
    assert make_ranking(embeddings, y, **reference).n_matches.tolist() == [1, 1, 1, 0, 0, 1]
    reference |= {"groups": groups, "reference_groups": [0, 1]}
    assert make_ranking(embeddings, y, **reference).n_matches.tolist() == [0, 0, 1, 0, 0, 1]


def test_near_tie_groups():
    """A group is a chain of candidates within the tolerance of the previous one."""
    keys = np.array([[10, 12, 14, 20, 23], [0, 3, 5, 8, 10]], dtype=np.uint64)
    starts_group = _near_tie_groups(keys, np.uint64(2))
    assert starts_group.astype(int).tolist() == [[1, 0, 0, 1, 1], [1, 1, 0, 1, 0]]


@pytest.mark.parametrize(
    ("n_ranks", "ordered", "expected"),
    [
        # The groups span the candidates 0 to 2, 3, 4 and 5, and 6 and 7.
        (8, True, [(0, 3), (6, 8)]),
        (8, False, []),  # no group extends beyond the ranks
        (7, False, [(6, 8)]),
        (6, True, [(0, 3)]),
        (3, False, []),
        (2, False, [(0, 3)]),
        (1, True, [(0, 3)]),
        (0, True, []),
    ],
)
def test_ambiguous_groups(n_ranks, ordered, expected):
    starts_group = np.array([[1, 0, 0, 1, 1, 0, 1, 0]], dtype=bool)
    relevant = np.array([[1, 0, 0, 1, 0, 0, 1, 0]], dtype=bool)
    groups = _ambiguous_groups(starts_group, relevant, np.array([n_ranks]), ordered)
    assert list(zip(*groups, strict=True)) == expected


def test_ambiguous_groups_of_two_queries():
    starts_group = np.array([[1, 1, 0], [1, 0, 1]], dtype=bool)
    relevant = np.array([[0, 0, 1], [1, 0, 0]], dtype=bool)
    starts, stops = _ambiguous_groups(starts_group, relevant, np.array([3, 1]), True)
    assert (starts.tolist(), stops.tolist()) == ([1, 3], [3, 5])
