"""Retrieval scores are compared with their definitions, computed query by query."""

import inspect
from functools import partial
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, ndcg_score, pairwise_distances
from sklearn.metrics.pairwise import cosine_distances

from sktriplet.metrics import (
    _ranking,
    cumulative_match_characteristic_curve,
    mean_average_precision_at_r_score,
    mean_average_precision_score,
    mean_reciprocal_rank_score,
    normalized_discounted_cumulative_gain_score,
    precision_at_k_score,
    r_precision_score,
    recall_at_k_score,
)

SCORES = {
    "Recall@1": recall_at_k_score,
    "Recall@3": partial(recall_at_k_score, k=3),
    "Precision@3": partial(precision_at_k_score, k=3),
    "R-precision": r_precision_score,
    "MAP@R": mean_average_precision_at_r_score,
    "Mean average precision": mean_average_precision_score,
    "Mean reciprocal rank": mean_reciprocal_rank_score,
    "NDCG": normalized_discounted_cumulative_gain_score,
    "NDCG@4": partial(normalized_discounted_cumulative_gain_score, k=4),
}
every_score = pytest.mark.parametrize("name", SCORES)


def score_query(name, matches):
    """Compute the score of a query from whether its neighbors are matches; NaN if none is."""
    r = sum(matches)
    if r == 0:
        return np.nan
    hits = [i for i, match in enumerate(matches, start=1) if match]  # ranks of the matches
    k = int(name[-1]) if "@" in name and name[-1].isdigit() else len(matches)
    precisions = [sum(matches[:i]) / i for i in hits]
    if name.startswith("Recall"):
        return float(any(matches[:k]))
    if name.startswith("Precision"):
        return sum(matches[:k]) / k
    if name == "R-precision":
        return sum(matches[:r]) / r
    if name == "MAP@R":
        return sum(p for p, i in zip(precisions, hits, strict=True) if i <= r) / r
    if name == "Mean average precision":
        return sum(precisions) / r
    if name == "Mean reciprocal rank":
        return 1 / hits[0]
    ideal = sum(1 / log2(i + 1) for i in range(1, min(r, k) + 1))
    return sum(1 / log2(i + 1) for i in hits if i <= k) / ideal


def rank_by_definition(
    embeddings, y, reference=None, reference_y=None, groups=None, reference_groups=None
):
    """Sort by (distance, index), query by query; return which candidates are matches."""
    searches_itself = reference is None
    if searches_itself:
        reference, reference_y, reference_groups = embeddings, y, groups
    rankings = []
    for query, embedding in enumerate(embeddings):
        candidates = []
        for index, other in enumerate(reference):
            if searches_itself and index == query:
                continue
            match = reference_y[index] == y[query]
            if groups is not None and match and reference_groups[index] == groups[query]:
                continue
            candidates.append((np.sum((embedding - other) ** 2), index, match))
        rankings.append([match for *_, match in sorted(candidates)])
    return rankings


def assert_matches_definition(names, embeddings, y, **kwargs):
    rankings = rank_by_definition(embeddings, y, **kwargs)
    is_undefined = not any(map(any, rankings)) or len(set(kwargs.get("reference_y", y))) == 1
    for name in names:
        score = partial(SCORES[name], embeddings, y, **kwargs)
        if is_undefined:
            with pytest.warns(UndefinedMetricWarning, match=f"{name} is undefined"):
                assert np.isnan(score(average=None)).tolist() == [True] * len(y)
            with pytest.warns(UndefinedMetricWarning, match=f"{name} is undefined"):
                assert np.isnan(score())
        else:
            expected = [score_query(name, matches) for matches in rankings]
            np.testing.assert_allclose(score(average=None), expected, rtol=1e-12, err_msg=name)
            np.testing.assert_allclose(score(), np.nanmean(expected), err_msg=name)


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


@settings(max_examples=250)  # two cases in each of two tests, so 1,000
@given(points=st.lists(points, min_size=2, max_size=25))
def test_definition(points):
    embeddings, y, groups = to_arrays(points)
    assert_matches_definition(SCORES, embeddings, y)
    assert_matches_definition(SCORES, embeddings, y, groups=groups)


@settings(max_examples=250)
@given(
    points=st.lists(points, min_size=1, max_size=12),
    others=st.lists(points, min_size=1, max_size=25),
)
def test_definition_with_reference(points, others):
    embeddings, y, groups = to_arrays(points)
    reference, reference_y, reference_groups = to_arrays(others)
    kwargs = {"reference": reference, "reference_y": reference_y}
    assert_matches_definition(SCORES, embeddings, y, **kwargs)
    kwargs |= {"groups": groups, "reference_groups": reference_groups}
    assert_matches_definition(SCORES, embeddings, y, **kwargs)


@given(points=st.lists(points, min_size=2, max_size=25), max_rank=st.integers(1, 30))
def test_curve_is_recall_at_k(points, max_rank):
    embeddings, y, groups = to_arrays(points)
    for kwargs in ({}, {"groups": groups}):
        rankings = [ranking for ranking in rank_by_definition(embeddings, y, **kwargs)]
        rankings = [ranking for ranking in rankings if any(ranking)]
        if not rankings or len(set(y)) == 1:
            with pytest.warns(UndefinedMetricWarning, match="^The cumulative match characteristic"):
                ranks, recall = cumulative_match_characteristic_curve(
                    embeddings, y, max_rank=max_rank, **kwargs
                )
            assert np.isnan(recall).all()
        else:
            ranks, recall = cumulative_match_characteristic_curve(
                embeddings, y, max_rank=max_rank, **kwargs
            )
            assert recall == pytest.approx(
                [np.mean([any(ranking[:k]) for ranking in rankings]) for k in ranks]
            )
        assert ranks.tolist() == list(range(1, min(max_rank, len(y)) + 1))


def score_by_market1501(embeddings, y, cameras, reference, reference_y, reference_cameras):
    """Return mAP and CMC of the protocol of Market-1501, where junk has the label -1."""
    precisions, curves = [], []
    for embedding, label, camera in zip(embeddings, y, cameras, strict=True):
        distances = np.sum((reference - embedding) ** 2, axis=1)
        order = np.argsort(distances, kind="stable")
        is_junk = (reference_y == -1) | ((reference_y == label) & (reference_cameras == camera))
        good = (reference_y == label)[order[~is_junk[order]]]
        if good.any():
            scores = -np.arange(len(good))
            precisions.append(average_precision_score(good, scores))
            curves.append(np.cumsum(good) > 0)
    length = max(map(len, curves))
    curves = [np.r_[curve, [True] * (length - len(curve))] for curve in curves]
    return np.mean(precisions), np.mean(curves, axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_reidentification_protocol(seed):
    """Distractors have the label 0, as in Market-1501; there are ties."""
    rng = np.random.default_rng(seed)
    y, reference_y = rng.integers(1, 8, size=30), rng.integers(-1, 8, size=150)
    cameras, reference_cameras = rng.integers(3, size=30), rng.integers(3, size=150)
    embeddings, reference = (rng.integers(6, size=(n, 2)).astype(float) for n in (30, 150))
    expected, curve = score_by_market1501(
        embeddings, y, cameras, reference, reference_y, reference_cameras
    )
    is_kept = reference_y != -1
    kwargs = {
        "reference": reference[is_kept],
        "reference_y": reference_y[is_kept],
        "groups": cameras,
        "reference_groups": reference_cameras[is_kept],
    }
    assert mean_average_precision_score(embeddings, y, **kwargs) == pytest.approx(expected)
    _, recall = cumulative_match_characteristic_curve(embeddings, y, max_rank=20, **kwargs)
    assert recall == pytest.approx(curve[:20])


@pytest.mark.parametrize(
    ("positions", "y", "expected"),
    [
        ([0, 1, 10, 11], "aabb", [1, 1, 1 / 3, 1, 1, 1, 1, 1, 1]),
        # Matches at the ranks 2, 3, 3 and 2.
        ([0, 1, 10, 11], "abab", [0, 1, 1 / 3, 0, 0, 5 / 12, 5 / 12, None, None]),
        # Both "a" have R = 1 match, ranked second after the "b".
        ([0, 1, 3], "aba", [0, 1, 1 / 3, 0, 0, 1 / 2, 1 / 2, 1 / log2(3), 1 / log2(3)]),
        # Every "a" has R = 2 matches. The first two rank each other first, and "b" before the
        # third. The third ranks "b" first, then both "a".
        (
            [0, 1, 3, 2.5],
            "aaab",
            [
                2 / 3,
                1,
                2 / 3,
                1 / 2,
                np.mean([1 / 2, 1 / 2, 1 / 4]),
                np.mean([(1 + 2 / 3) / 2, (1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2]),
                np.mean([1, 1, 1 / 2]),
                np.mean([1 + 1 / 2, 1 + 1 / 2, 1 / log2(3) + 1 / 2]) / (1 + 1 / log2(3)),
                np.mean([1 + 1 / 2, 1 + 1 / 2, 1 / log2(3) + 1 / 2]) / (1 + 1 / log2(3)),
            ],
        ),
    ],
)
def test_by_hand(positions, y, expected):
    embeddings = np.array(positions, dtype=float)[:, None]
    scores = [score(embeddings, list(y)) for score in SCORES.values()]
    known = [value is not None for value in expected]
    assert np.array(scores)[known] == pytest.approx([v for v in expected if v is not None])


def test_averages_by_hand():
    """The three "a" find each other, the two "b" do not, and "c" has no match."""
    embeddings, y = np.array([[0.0], [1], [2], [10], [20], [21]]), list("aaabcb")
    score = partial(recall_at_k_score, embeddings, y)
    assert score(average=None) == pytest.approx([1, 1, 1, 0, np.nan, 0], nan_ok=True)
    assert score() == score(average="samples") == 3 / 5
    assert score(average="macro") == 1 / 2
    with pytest.warns(UndefinedMetricWarning, match="no query has a match"):
        assert np.isnan(recall_at_k_score(embeddings[3:5], ["b", "c"], average="macro"))


@pytest.mark.parametrize("with_reference", [False, True])
def test_agrees_with_pytorch_metric_learning(with_reference, rng):
    embeddings = rng.normal(size=(300, 8)).astype(np.float32)
    y = rng.integers(12, size=300)
    names = {
        "Recall@1": "precision_at_1",
        "R-precision": "r_precision",
        "MAP@R": "mean_average_precision_at_r",
        "Mean average precision": "mean_average_precision",
        "Mean reciprocal rank": "mean_reciprocal_rank",
    }
    module = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    reference = ()
    if with_reference:
        reference = embeddings[100:], y[100:]
        embeddings, y = embeddings[:100], y[:100]
    kwargs = dict(zip(("reference", "reference_y"), reference, strict=False))
    for average in ("samples", "macro"):
        calculator = module.AccuracyCalculator(
            include=tuple(names.values()),
            avg_of_avgs=average == "macro",
            knn_func=torch_knn,
        )
        expected = calculator.get_accuracy(embeddings, y, *reference)
        scores = [SCORES[name](embeddings, y, average=average, **kwargs) for name in names]
        assert scores == pytest.approx([expected[name] for name in names.values()])


def test_agrees_with_scikit_learn(rng):
    """Without ties, as its average precision and NDCG treat them in another way."""
    embeddings, reference = rng.normal(size=(40, 5)), rng.normal(size=(90, 5))
    y, reference_y = rng.integers(6, size=40), rng.integers(6, size=90)
    similarities = -pairwise_distances(embeddings, reference)
    relevance = reference_y == y[:, None]
    kwargs = {"reference": reference, "reference_y": reference_y}
    precisions = map(average_precision_score, relevance, similarities)
    score = mean_average_precision_score(embeddings, y, average=None, **kwargs)
    assert score == pytest.approx(list(precisions))
    for k in (None, 1, 7):
        score = normalized_discounted_cumulative_gain_score(embeddings, y, k=k, **kwargs)
        assert score == pytest.approx(ndcg_score(relevance, similarities, k=k))


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
    assert_matches_definition([name], embeddings, y)
    reference = {"reference": embeddings[20:], "reference_y": y[20:]}
    assert_matches_definition([name], embeddings[:20], y[:20], **reference)


@every_score
def test_outlier(name, rng):
    """One far sample does not make the distances between the others inexact."""
    embeddings, y = rng.normal(size=(60, 4)), rng.integers(4, size=60)
    embeddings[7] = 1e9
    assert_matches_definition([name], embeddings, y)


@every_score
@pytest.mark.parametrize("chunk_bytes", [1, 5000])
def test_chunks(name, chunk_bytes, rng, monkeypatch):
    embeddings, y = rng.normal(size=(100, 4)), rng.integers(5, size=100)
    groups = rng.integers(3, size=100)
    # Many equal samples, in case ties continue beyond the candidates that are ranked at first.
    embeddings[rng.integers(100, size=40)] = embeddings[0]
    monkeypatch.setattr(_ranking, "CHUNK_BYTES", chunk_bytes)
    assert_matches_definition([name], embeddings, y)
    assert_matches_definition([name], embeddings, y, groups=groups)


@every_score
def test_double_precision_product(name, rng, monkeypatch):
    """Used where the order of many ranks matters."""
    monkeypatch.setattr(_ranking, "MAX_RANKS_IN_SINGLE", 0)
    embeddings, y = rng.normal(size=(60, 3)), rng.integers(4, size=60)
    embeddings[rng.integers(60, size=20)] = embeddings[0]
    assert_matches_definition([name], embeddings, y)


@every_score
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_duplicates(name, dtype, rng):
    """Equal samples are at equal distances, for any number of features."""
    for n_features in (1, 3, 17, 64):
        positions = rng.normal(size=(4, n_features)).astype(dtype)
        embeddings, y = positions[rng.integers(4, size=120)], rng.integers(3, size=120)
        assert_matches_definition([name], embeddings.astype(float), y)


@every_score
def test_cosine(name, rng):
    embeddings, y = rng.normal(size=(70, 5)), rng.integers(5, size=70)
    embeddings[rng.integers(70, size=20)] = embeddings[3]
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled = embeddings * 2.0 ** rng.integers(-3, 3, size=(70, 1))
    assert SCORES[name](scaled, y, metric="cosine") == pytest.approx(
        np.nanmean([score_query(name, ranking) for ranking in rank_by_definition(directions, y)])
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


def test_docstrings_describe_parameters_equally():
    validate = pytest.importorskip("numpydoc.docscrape")
    scores = {getattr(score, "func", score) for score in SCORES.values()}
    described = {}
    for function in [*scores, cumulative_match_characteristic_curve]:
        parameters = validate.FunctionDoc(function)["Parameters"]
        assert [p.name for p in parameters] == list(inspect.signature(function).parameters)
        for parameter in parameters:
            if parameter.name not in ("k", "max_rank"):
                described.setdefault(parameter.name, set()).add((parameter.type, *parameter.desc))
    assert {name: len(texts) for name, texts in described.items()} == dict.fromkeys(described, 1)
