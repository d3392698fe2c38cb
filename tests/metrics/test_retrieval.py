"""Retrieval scores are compared with their definitions, computed query by query."""

import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics.pairwise import cosine_distances
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet.metrics import (
    _ranking,
    mean_average_precision_at_r_score,
    mean_average_precision_at_r_scorer,
    r_precision_score,
    r_precision_scorer,
    recall_at_k_score,
    recall_at_k_scorer,
)

SCORES = {
    "Recall@1": recall_at_k_score,
    "Recall@3": partial(recall_at_k_score, k=3),
    "R-precision": r_precision_score,
    "MAP@R": mean_average_precision_at_r_score,
}
every_score = pytest.mark.parametrize("name", SCORES)


def score_by_definition(
    name, embeddings, y, reference=None, reference_y=None, groups=None, reference_groups=None
):
    """Sort by (distance, index), query by query, and count matches; None if undefined."""
    searches_itself = reference is None
    if searches_itself:
        reference, reference_y, reference_groups = embeddings, y, groups
    values = []
    for query, embedding in enumerate(embeddings):
        candidates = []
        for index, other in enumerate(reference):
            if searches_itself and index == query:
                continue
            match = reference_y[index] == y[query]
            if groups is not None and match and reference_groups[index] == groups[query]:
                continue
            candidates.append((np.sum((embedding - other) ** 2), index, match))
        matches = [match for *_, match in sorted(candidates)]
        r = sum(matches)
        if r == 0:
            continue
        if name.startswith("Recall"):
            values.append(any(matches[: int(name[-1])]))
        elif name == "R-precision":
            values.append(sum(matches[:r]) / r)
        else:
            hits = [i for i in range(1, r + 1) if matches[i - 1]]
            values.append(sum(sum(matches[:i]) / i for i in hits) / r)
    return np.mean(values) if values and len(set(reference_y)) > 1 else None


def assert_matches_definition(name, embeddings, y, **kwargs):
    expected = score_by_definition(name, embeddings, y, **kwargs)
    if expected is None:
        with pytest.warns(UndefinedMetricWarning, match="undefined and set to NaN"):
            assert np.isnan(SCORES[name](embeddings, y, **kwargs))
    else:
        assert SCORES[name](embeddings, y, **kwargs) == pytest.approx(expected, rel=1e-12)


# Few positions and few labels, for many ties, classes of one sample and groups without matches.
points = st.tuples(
    st.integers(-2, 2), st.integers(-2, 2), st.sampled_from("abcd"), st.sampled_from("xyz")
)


def to_arrays(points):
    """Return embeddings, labels and groups."""
    return (
        np.array([point[:2] for point in points], dtype=float),
        [point[2] for point in points],
        [point[3] for point in points],
    )


@every_score
@given(points=st.lists(points, min_size=2, max_size=25))
def test_definition(name, points):
    embeddings, y, groups = to_arrays(points)
    assert_matches_definition(name, embeddings, y)
    assert_matches_definition(name, embeddings, y, groups=groups)


@every_score
@given(
    points=st.lists(points, min_size=1, max_size=12),
    others=st.lists(points, min_size=1, max_size=25),
)
def test_definition_with_reference(name, points, others):
    embeddings, y, groups = to_arrays(points)
    reference, reference_y, reference_groups = to_arrays(others)
    kwargs = {"reference": reference, "reference_y": reference_y}
    assert_matches_definition(name, embeddings, y, **kwargs)
    kwargs |= {"groups": groups, "reference_groups": reference_groups}
    assert_matches_definition(name, embeddings, y, **kwargs)


@pytest.mark.parametrize(
    ("positions", "y", "expected"),
    [
        ([0, 1, 10, 11], "aabb", [1, 1, 1, 1]),
        ([0, 1, 10, 11], "abab", [0, 1, 0, 0]),
        # Both "a" have R = 1 match, ranked second after the "b": 0.
        ([0, 1, 3], "aba", [0, 1, 0, 0]),
        # Every "a" has R = 2 matches. The first two rank each other first, and "b" before the
        # third: (1 / 1 + 0) / 2. The third ranks "b" first, then an "a": (0 + 1 / 2) / 2.
        ([0, 1, 3, 2.5], "aaab", [2 / 3, 1, 1 / 2, np.mean([1 / 2, 1 / 2, 1 / 4])]),
    ],
)
def test_by_hand(positions, y, expected):
    embeddings = np.array(positions, dtype=float)[:, None]
    scores = [score(embeddings, list(y)) for score in SCORES.values()]
    assert scores == pytest.approx(expected)


@pytest.mark.parametrize("with_reference", [False, True])
def test_agrees_with_pytorch_metric_learning(with_reference, rng):
    embeddings = rng.normal(size=(300, 8)).astype(np.float32)
    y = rng.integers(12, size=300)
    names = "precision_at_1", "r_precision", "mean_average_precision_at_r"
    module = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    calculator = module.AccuracyCalculator(include=names, k="max_bin_count", knn_func=torch_knn)
    reference = ()
    if with_reference:
        reference = embeddings[100:], y[100:]
        embeddings, y = embeddings[:100], y[:100]
    expected = calculator.get_accuracy(embeddings, y, *reference)
    kwargs = dict(zip(("reference", "reference_y"), reference, strict=False))
    scores = [SCORES[name](embeddings, y, **kwargs) for name in SCORES if name != "Recall@3"]
    assert scores == pytest.approx([expected[name] for name in names])


def torch_knn(query, k, reference, ref_includes_query):
    import torch

    distances = torch.cdist(query.double(), reference.double())
    if ref_includes_query:
        distances.fill_diagonal_(torch.inf)
        k -= k == len(reference)
    return distances.topk(k, largest=False)


@every_score
@pytest.mark.parametrize("shift", [0, 1e4])
@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
def test_collapsed_embeddings(name, shift, scale, rng):
    """All distances but a few are equal in single precision."""
    embeddings = 1 + rng.normal(size=(80, 3)) * 1e-6
    embeddings[:3] = rng.normal(size=(3, 3))
    embeddings = (embeddings + shift) * scale
    y = rng.integers(4, size=80)
    assert_matches_definition(name, embeddings, y)
    reference = {"reference": embeddings[20:], "reference_y": y[20:]}
    assert_matches_definition(name, embeddings[:20], y[:20], **reference)


@every_score
def test_outlier(name, rng):
    """One far sample does not make the distances between the others inexact."""
    embeddings, y = rng.normal(size=(60, 4)), rng.integers(4, size=60)
    embeddings[7] = 1e9
    assert_matches_definition(name, embeddings, y)


@every_score
@pytest.mark.parametrize("chunk_bytes", [1, 5000])
def test_chunks(name, chunk_bytes, rng, monkeypatch):
    embeddings, y = rng.normal(size=(100, 4)), rng.integers(5, size=100)
    groups = rng.integers(3, size=100)
    # Many equal samples, in case ties continue beyond the candidates that are ranked at first.
    embeddings[rng.integers(100, size=40)] = embeddings[0]
    monkeypatch.setattr(_ranking, "CHUNK_BYTES", chunk_bytes)
    assert_matches_definition(name, embeddings, y)
    assert_matches_definition(name, embeddings, y, groups=groups)


@every_score
def test_double_precision_product(name, rng, monkeypatch):
    """Used where the order of many ranks matters."""
    monkeypatch.setattr(_ranking, "MAX_RANKS_IN_SINGLE", 0)
    embeddings, y = rng.normal(size=(60, 3)), rng.integers(4, size=60)
    embeddings[rng.integers(60, size=20)] = embeddings[0]
    assert_matches_definition(name, embeddings, y)


@every_score
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_duplicates(name, dtype, rng):
    """Equal samples are at equal distances, for any number of features."""
    for n_features in (1, 3, 17, 64):
        positions = rng.normal(size=(4, n_features)).astype(dtype)
        embeddings, y = positions[rng.integers(4, size=120)], rng.integers(3, size=120)
        assert_matches_definition(name, embeddings.astype(float), y)


@every_score
def test_cosine(name, rng):
    embeddings, y = rng.normal(size=(70, 5)), rng.integers(5, size=70)
    embeddings[rng.integers(70, size=20)] = embeddings[3]
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled = embeddings * 2.0 ** rng.integers(-3, 3, size=(70, 1))
    assert SCORES[name](scaled, y, metric="cosine") == pytest.approx(
        score_by_definition(name, directions, y)
    )


def test_cosine_of_close_directions():
    """Directions that single precision does not distinguish."""
    angles = 0.5 + 1e-6 * np.arange(40)
    reference = np.column_stack([np.cos(angles), np.sin(angles)])
    kwargs = {"reference": reference, "reference_y": np.arange(40) % 2, "metric": "cosine"}
    assert recall_at_k_score([[1.0, 0.0]], [0], **kwargs) == 1
    assert recall_at_k_score([[1.0, 0.0]], [1], **kwargs) == 0
    # Matches at the odd ranks of R = 20, with precision 1, 2/3, 3/5, ...
    hits = np.arange(1, 11) / np.arange(1, 20, 2)
    score = mean_average_precision_at_r_score([[1.0, 0.0]], [0], **kwargs)
    assert score == pytest.approx(hits.sum() / 20)


def test_cosine_of_zero_vector():
    """It is at distance 1, as in scikit-learn, and ties with orthogonal vectors."""
    query, near, zero, far = [[1.0, 0.0]], [1.0, 3.0], [0.0, 0.0], [-1.0, 3.0]
    reference = np.array([far, zero, near])
    assert np.argsort(cosine_distances(query, reference)).tolist() == [[2, 1, 0]]
    kwargs = {"reference": reference, "reference_y": list("bab"), "metric": "cosine"}
    assert [recall_at_k_score(query, ["a"], k=k, **kwargs) for k in (1, 2)] == [0, 1]
    kwargs = {"reference": [[0.0, 2.0], zero], "reference_y": ["b", "a"], "metric": "cosine"}
    assert [recall_at_k_score(query, [label], **kwargs) for label in "ab"] == [0, 1]


def test_ties_are_broken_by_index():
    # All at one position: sample 0 ranks 1 first, a match; 1 ranks 0 first; 2 has no match.
    assert mean_average_precision_at_r_score(np.zeros((3, 2)), [0, 0, 1]) == 1
    assert mean_average_precision_at_r_score(np.zeros((3, 2)), [0, 1, 1]) == 0


def test_groups_follow_reidentification_protocol():
    """Matches of the query's camera are excluded; other people of that camera are not."""
    embeddings = [[0.0], [0.1], [0.2], [5.0]]
    people, cameras = ["ann", "ann", "bob", "ann"], ["left", "left", "left", "right"]
    assert recall_at_k_score(embeddings[:1], ["ann"], reference=embeddings, reference_y=people) == 1
    kwargs = {"reference": embeddings[1:], "reference_y": people[1:]}
    kwargs |= {"groups": ["left"], "reference_groups": cameras[1:]}
    scores = [recall_at_k_score(embeddings[:1], ["ann"], k=k, **kwargs) for k in (1, 2)]
    assert scores == [0, 1]


@pytest.mark.parametrize("k", [3, 100, 10**30])
def test_recall_at_k_of_all_samples(k):
    assert recall_at_k_score([[0.0], [1.0], [2.0]], ["a", "b", "a"], k=k) == 1


@every_score
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_input_is_not_modified(name, metric, rng):
    embeddings = rng.normal(size=(20, 3))
    embeddings.flags.writeable = False
    SCORES[name](embeddings, np.arange(20) % 4, metric=metric)


@every_score
@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({}, "in y"),
        ({"groups": [1, 1, 1]}, "in y outside its group"),
        ({"reference": np.eye(3), "reference_y": [4, 5, 6]}, "in reference_y"),
        (
            {
                "reference": np.eye(3),
                "reference_y": [1, 2, 3],
                "groups": [0, 0, 0],
                "reference_groups": [0, 0, 0],
            },
            "in reference_y outside its group",
        ),
    ],
)
def test_undefined_without_matches(name, kwargs, reason):
    with pytest.warns(UndefinedMetricWarning, match=rf"^{name} is .* {reason}\.$") as caught:
        assert np.isnan(SCORES[name](np.eye(3), [1, 2, 3], **kwargs))
    assert caught[0].filename == __file__


SCORERS = {
    "recall": (recall_at_k_scorer, recall_at_k_score),
    "r_precision": (r_precision_scorer, r_precision_score),
    "map_at_r": (mean_average_precision_at_r_scorer, mean_average_precision_at_r_score),
}
every_scorer = pytest.mark.parametrize("name", SCORERS)


@every_scorer
def test_scorer_scores_transformed_samples(name, iris):
    X, y = iris
    scorer, score = SCORERS[name]
    pca = PCA(2).fit(X)
    assert scorer(pca, X, y) == score(pca.transform(X), y)
    assert scorer(pca, X, y, metric="cosine") == score(pca.transform(X), y, metric="cosine")


def test_recall_at_k_scorer_uses_k(iris):
    X, y = iris
    pca = PCA(1).fit(X)
    at_one, at_five = (partial(recall_at_k_scorer, k=k)(pca, X, y) for k in (1, 5))
    assert at_one < at_five == recall_at_k_score(pca.transform(X), y, k=5)


@every_scorer
def test_scorer_can_be_pickled(name):
    scorer, score = SCORERS[name]
    assert pickle.loads(pickle.dumps(scorer)) is scorer
    assert scorer.__name__ == f"{score.__name__}r"


def test_scorers_in_cross_validation(iris):
    scores = cross_validate(
        make_pipeline(StandardScaler(), PCA(2)),
        *iris,
        cv=StratifiedKFold(),
        scoring={name: scorer for name, (scorer, _) in SCORERS.items()},
        error_score="raise",
    )
    for name in SCORERS:
        assert (scores[f"test_{name}"] > 0.6).all()


@pytest.mark.parametrize("name", SCORES)
def test_single_class_is_undefined(name):
    """As in the folds of KFold on samples that are sorted by class."""
    embeddings, y = np.arange(4.0)[:, None], ["a"] * 4
    for kwargs in ({}, {"reference": embeddings, "reference_y": y}):
        with pytest.warns(UndefinedMetricWarning, match="single class.*StratifiedKFold"):
            assert np.isnan(SCORES[name](embeddings, y, **kwargs))


@pytest.mark.parametrize("name", SCORES)
def test_large_labels_are_exact(name):
    """int64 and uint64 have the common type float64, in which these are equal."""
    embeddings, y = np.arange(8.0)[:, None], 10**18 + np.arange(8) // 2
    reference_y = (y + 1).astype(np.uint64)
    exact = SCORES[name](
        embeddings, y.astype(str), reference=embeddings, reference_y=reference_y.astype(str)
    )
    assert SCORES[name](embeddings, y, reference=embeddings, reference_y=reference_y) == exact


@pytest.mark.parametrize("dtype", ["Int64", "UInt64"])
def test_large_nullable_labels(dtype):
    """scikit-learn would convert them to floats, in which they are equal."""
    pd = pytest.importorskip("pandas")
    y = 10**18 + np.arange(6) // 2
    embeddings = np.array([0.0, 1, 0.1, 1.1, 5, 6])[:, None]
    score = recall_at_k_score(embeddings, pd.Series(y, dtype=dtype))
    assert score == recall_at_k_score(embeddings, y.astype(str))


def test_scorer_in_grid_search_by_class(make_embedder):
    rng = np.random.default_rng(0)
    y = np.repeat([f"class {number}" for number in range(6)], 10)
    X = rng.normal(size=(6, 4))[np.arange(60) // 10] + rng.normal(size=(60, 4)) / 5
    search = GridSearchCV(
        make_embedder(max_epochs=1),
        {"margin": [0.2, 1.0]},
        scoring=partial(recall_at_k_scorer, k=2),
        cv=GroupKFold(3),
        error_score="raise",
    ).fit(X, y, groups=y)
    assert 0.5 < search.best_score_ <= 1
