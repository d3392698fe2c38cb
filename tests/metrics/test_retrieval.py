from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics.pairwise import cosine_distances
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sktriplet.metrics._ranking
from sktriplet.metrics import (
    detection_identification_rate_score,
    mean_average_precision_at_r_score,
    mean_average_precision_at_r_scorer,
    r_precision_score,
    r_precision_scorer,
    recall_at_k_score,
    recall_at_k_scorer,
)

SCORES = {
    "recall at 1": recall_at_k_score,
    "recall at 3": partial(recall_at_k_score, k=3),
    "r-precision": r_precision_score,
    "map at r": mean_average_precision_at_r_score,
}
every_score = pytest.mark.parametrize("name", SCORES)


def from_the_definitions(
    name, embeddings, y, reference=None, reference_y=None, groups=None, reference_groups=None
):
    """Sort by (distance, index), query by query, and count."""
    itself = reference is None
    if itself:
        reference, reference_y, reference_groups = embeddings, y, groups
    values = []
    for query, row in enumerate(embeddings):
        found = []
        for index, other in enumerate(reference):
            if itself and index == query:
                continue
            match = reference_y[index] == y[query]
            if groups is not None and match and reference_groups[index] == groups[query]:
                continue
            found.append((np.sum((row - other) ** 2), index, match))
        matches = [match for *_, match in sorted(found)]
        r = sum(matches)
        if r == 0:
            continue
        if name.startswith("recall"):
            values.append(any(matches[: int(name[-1])]))
        elif name == "r-precision":
            values.append(sum(matches[:r]) / r)
        else:
            hits = [i for i in range(1, r + 1) if matches[i - 1]]
            values.append(sum(sum(matches[:i]) / i for i in hits) / r)
    return np.mean(values) if values else None


def agree(name, *args, **kwargs):
    expected = from_the_definitions(name, *args, **kwargs)
    if expected is None:
        with pytest.warns(UndefinedMetricWarning, match="undefined and set to NaN"):
            assert np.isnan(SCORES[name](*args, **kwargs))
    else:
        assert SCORES[name](*args, **kwargs) == pytest.approx(expected, rel=1e-12)


# Few places and few labels: many ties, singletons and groups that leave nothing.
rows = st.tuples(
    st.integers(-2, 2), st.integers(-2, 2), st.sampled_from("abcd"), st.sampled_from("xyz")
)


def columns(points):
    return (
        np.array([point[:2] for point in points], dtype=float),
        [point[2] for point in points],
        [point[3] for point in points],
    )


@every_score
@given(points=st.lists(rows, min_size=2, max_size=25))
def test_is_what_it_is_defined_to_be(name, points):
    embeddings, y, groups = columns(points)
    agree(name, embeddings, y)
    agree(name, embeddings, y, groups=groups)


@every_score
@given(
    points=st.lists(rows, min_size=1, max_size=12),
    others=st.lists(rows, min_size=1, max_size=25),
)
def test_is_what_it_is_defined_to_be_with_a_reference(name, points, others):
    embeddings, y, groups = columns(points)
    reference, reference_y, reference_groups = columns(others)
    searched = {"reference": reference, "reference_y": reference_y}
    agree(name, embeddings, y, **searched)
    agree(name, embeddings, y, **searched, groups=groups, reference_groups=reference_groups)


@every_score
@pytest.mark.parametrize("shift", [0, 1e4])
@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
def test_neighbours_too_near_each_other_for_single_precision(name, shift, scale, rng):
    """As in an embedding that has nearly collapsed: single precision sees one distance."""
    embeddings = 1 + rng.normal(size=(80, 3)) * 1e-6
    embeddings[:3] = rng.normal(size=(3, 3))
    embeddings = (embeddings + shift) * scale
    y = rng.integers(4, size=80)
    agree(name, embeddings, y)
    agree(name, embeddings[:20], y[:20], reference=embeddings[20:], reference_y=y[20:])


@every_score
def test_one_far_row_does_not_blur_the_others(name, rng):
    embeddings, y = rng.normal(size=(60, 4)), rng.integers(4, size=60)
    embeddings[7] = 1e9
    agree(name, embeddings, y)


@every_score
@pytest.mark.parametrize("chunk_bytes", [1, 5000])
def test_chunks_make_no_difference(name, chunk_bytes, rng, monkeypatch):
    embeddings, y = rng.normal(size=(100, 4)), rng.integers(5, size=100)
    groups = rng.integers(3, size=100)
    # Equal rows, some of them on both sides of where the search stops looking.
    embeddings[rng.integers(100, size=40)] = embeddings[0]
    monkeypatch.setattr(sktriplet.metrics._ranking, "CHUNK_BYTES", chunk_bytes)
    agree(name, embeddings, y)
    agree(name, embeddings, y, groups=groups)


@every_score
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_rows_are_at_equal_distances(name, dtype, rng):
    """More of them than the search pads with, in any number of columns."""
    for n_columns in (1, 3, 17, 64):
        places = rng.normal(size=(4, n_columns)).astype(dtype)
        embeddings, y = places[rng.integers(4, size=120)], rng.integers(3, size=120)
        agree(name, embeddings.astype(float), y)


@every_score
def test_cosine(name, rng):
    embeddings, y = rng.normal(size=(70, 5)), rng.integers(5, size=70)
    embeddings[rng.integers(70, size=20)] = embeddings[3]
    directions = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    stretched = embeddings * 2.0 ** rng.integers(-3, 3, size=(70, 1))
    assert SCORES[name](stretched, y, metric="cosine") == pytest.approx(
        from_the_definitions(name, directions, y)
    )


def test_directions_that_single_precision_cannot_tell_apart():
    angles = 0.5 + 1e-6 * np.arange(40)
    reference = np.column_stack([np.cos(angles), np.sin(angles)])
    searched = {"reference": reference, "reference_y": np.arange(40) % 2, "metric": "cosine"}
    assert recall_at_k_score([[1.0, 0.0]], [0], **searched) == 1
    assert recall_at_k_score([[1.0, 0.0]], [1], **searched) == 0
    # Ranks 1, 3, 5 and so on of 20: precision (1 + 2/3 + 3/5 ...), and every second one missed.
    hits = np.arange(1, 11) / np.arange(1, 20, 2)
    assert mean_average_precision_at_r_score([[1.0, 0.0]], [0], **searched) == pytest.approx(
        hits.sum() / 20
    )


def test_a_row_without_direction_ties_with_those_at_right_angles():
    searched = {"reference": [[0.0, 2.0], [0.0, 0.0]], "reference_y": ["b", "a"]}
    assert recall_at_k_score([[1.0, 0.0]], ["a"], **searched, metric="cosine") == 0
    assert recall_at_k_score([[1.0, 0.0]], ["b"], **searched, metric="cosine") == 1


def test_cosine_of_a_row_without_direction_is_scikit_learns():
    query, near, none, far = [[1.0, 0.0]], [1.0, 3.0], [0.0, 0.0], [-1.0, 3.0]
    reference = np.array([far, none, near])
    assert np.argsort(cosine_distances(query, reference)).tolist() == [[2, 1, 0]]
    for k, expected in [(1, 0), (2, 1)]:
        score = recall_at_k_score(
            query, ["a"], k=k, reference=reference, reference_y=list("bab"), metric="cosine"
        )
        assert score == expected


@pytest.mark.parametrize("with_reference", [False, True])
def test_agrees_with_pytorch_metric_learning(with_reference, rng):
    embeddings = rng.normal(size=(300, 8)).astype(np.float32)
    y = rng.integers(12, size=300)
    names = "precision_at_1", "r_precision", "mean_average_precision_at_r"
    module = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    calculator = module.AccuracyCalculator(include=names, k="max_bin_count", knn_func=knn_by_numpy)
    theirs_searched, searched = (), {}
    if with_reference:
        theirs_searched = embeddings[100:], y[100:]
        searched = {"reference": embeddings[100:], "reference_y": y[100:]}
        embeddings, y = embeddings[:100], y[:100]
    theirs = calculator.get_accuracy(embeddings, y, *theirs_searched)
    ours = [SCORES[name](embeddings, y, **searched) for name in SCORES if name != "recall at 3"]
    assert ours == pytest.approx([theirs[name] for name in names])


def knn_by_numpy(query, k, reference, ref_includes_query):
    import torch

    distances = torch.cdist(query.double(), reference.double())
    if ref_includes_query:
        distances.fill_diagonal_(torch.inf)
        k -= k == len(reference)
    return distances.topk(k, largest=False)


@pytest.mark.parametrize(
    ("positions", "y", "expected"),
    [
        ([0, 1, 10, 11], "aabb", [1, 1, 1, 1]),
        ([0, 1, 10, 11], "abab", [0, 1, 0, 0]),
        # Each 'a' finds the other second, after the 'b', among R = 1 others: 0.
        ([0, 1, 3], "aba", [0, 1, 0, 0]),
        # Every 'a' has R = 2. The first two find each other, then the 'b' before the third:
        # (1 / 1 + 0) / 2. The third finds the 'b', then an 'a': (0 + 1 / 2) / 2.
        ([0, 1, 3, 2.5], "aaab", [2 / 3, 1, 1 / 2, np.mean([1 / 2, 1 / 2, 1 / 4])]),
    ],
)
def test_by_hand(positions, y, expected):
    embeddings = np.array(positions, dtype=float)[:, None]
    scores = [score(embeddings, list(y)) for score in SCORES.values()]
    assert scores == pytest.approx(expected)


def test_identical_points_are_ordered_by_index():
    # All at one place: row 0 finds row 1 first, a hit; row 1 finds 0; row 2 finds none.
    assert mean_average_precision_at_r_score(np.zeros((3, 2)), [0, 0, 1]) == 1
    assert mean_average_precision_at_r_score(np.zeros((3, 2)), [0, 1, 1]) == 0


def test_the_same_camera_rule():
    """A query's own camera is no help, but strangers before that camera still count."""
    embeddings = [[0.0], [0.1], [0.2], [5.0]]
    people, cameras = ["ann", "ann", "bob", "ann"], ["left", "left", "left", "right"]
    assert recall_at_k_score(embeddings[:1], ["ann"], reference=embeddings, reference_y=people) == 1
    searched = {"reference": embeddings[1:], "reference_y": people[1:]}
    cameras_of = {"groups": ["left"], "reference_groups": cameras[1:]}
    assert recall_at_k_score(embeddings[:1], ["ann"], **searched, **cameras_of) == 0
    assert recall_at_k_score(embeddings[:1], ["ann"], **searched, **cameras_of, k=2) == 1


def test_recall_beyond_all_rows_is_one():
    assert recall_at_k_score([[0.0], [1.0], [2.0]], ["a", "b", "a"], k=100) == 1


def test_input_is_left_as_it_is(rng):
    embeddings = rng.normal(size=(20, 3)).astype(np.float32)
    embeddings.flags.writeable = False
    for metric in ("euclidean", "cosine"):
        r_precision_score(embeddings, np.arange(20) % 4, metric=metric)


@every_score
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "no row of y has another of its class."),
        ({"groups": [1, 1, 1]}, "no row of y has another of its class outside its group."),
        (
            {"reference": np.eye(3), "reference_y": [4, 5, 6]},
            "no row of y has a match in reference_y.",
        ),
    ],
)
def test_undefined_without_matches(name, arguments, reason):
    title = name.replace("recall at ", "Recall@").replace("r-p", "R-p").replace("map at r", "MAP@R")
    with pytest.warns(UndefinedMetricWarning, match=f"^{title} is undefined .*{reason}") as caught:
        assert np.isnan(SCORES[name](np.eye(3), [1, 2, 3], **arguments))
    assert caught[0].filename == __file__


@every_score
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": [1, 2]}, "y must hold a value for each of the 3 rows of embeddings. Got 2"),
        ({"groups": [1]}, "groups must hold a value for each of the 3 rows of embeddings. Got 1"),
        ({"metric": "cityblock"}, "metric must be 'euclidean' or 'cosine'. Got 'cityblock'"),
        ({"reference_y": [1, 2, 3]}, "reference_y is only used with a reference"),
        ({"reference_groups": [1, 2, 3]}, "reference_groups is only used with a reference"),
        ({"reference": np.eye(3)}, "reference needs reference_y"),
        (
            {"reference": np.eye(2), "reference_y": [1, 2]},
            "reference must have as many columns as embeddings, 3. Got 2",
        ),
        (
            {"reference": np.eye(3), "reference_y": [1, 2]},
            "reference_y must hold a value for each of the 3 rows of reference. Got 2",
        ),
        (
            {"reference": np.eye(3), "reference_y": [1, 1, 2], "groups": [1, 1, 1]},
            "groups and reference_groups go together where there is a reference. Got only groups",
        ),
        (
            {"reference": np.eye(3), "reference_y": ["1", "2", "3"]},
            "y and reference_y must be of one kind. Got int64 and <U1",
        ),
        ({"embeddings": [[0.0, np.nan]] * 3}, "Input embeddings contains NaN"),
        ({"embeddings": [1.0, 2.0, 3.0]}, "Expected 2D array"),
    ],
)
def test_what_cannot_be_scored(name, arguments, message):
    arguments = {"embeddings": np.eye(3), "y": np.array([1, 1, 2], dtype=np.int64)} | arguments
    with pytest.raises(ValueError, match=message):
        SCORES[name](arguments.pop("embeddings"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "1"])
def test_k_that_cannot_be(k):
    with pytest.raises(ValueError, match=r"k must be an integer >= 1\. Got"):
        recall_at_k_score(np.eye(2), [0, 0], k=k)


SCORERS = {
    "recall": (recall_at_k_scorer, recall_at_k_score),
    "r_precision": (r_precision_scorer, r_precision_score),
    "map_at_r": (mean_average_precision_at_r_scorer, mean_average_precision_at_r_score),
}


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_score_what_transform_gives(name, iris):
    X, y = iris
    scorer, score = SCORERS[name]
    pca = PCA(2).fit(X)
    assert scorer(pca, X, y) == score(pca.transform(X), y)
    assert scorer(pca, X, y, metric="cosine") == score(pca.transform(X), y, metric="cosine")


def test_the_recall_scorer_looks_at_k(iris):
    X, y = iris
    pca = PCA(1).fit(X)
    at_one, at_five = (recall_at_k_scorer(pca, X, y, k=k) for k in (1, 5))
    assert at_one < at_five == recall_at_k_score(pca.transform(X), y, k=5)


def test_scorers_in_cross_validation():
    scores = cross_validate(
        make_pipeline(StandardScaler(), PCA(2)),
        *load_iris(return_X_y=True),
        scoring={name: scorer for name, (scorer, _) in SCORERS.items()},
        error_score="raise",
    )
    for name in SCORERS:
        assert (scores[f"test_{name}"] > 0.6).all()


def test_scorers_in_a_grid_search_by_class(quick):
    rng = np.random.default_rng(0)
    y = np.repeat([f"class {number}" for number in range(6)], 10)
    X = rng.normal(size=(6, 4))[np.arange(60) // 10] + rng.normal(size=(60, 4)) / 5
    search = GridSearchCV(
        quick(max_epochs=1),
        {"margin": [0.2, 1.0]},
        scoring=partial(recall_at_k_scorer, k=2),
        cv=GroupKFold(3),
        error_score="raise",
    ).fit(X, y, groups=y)
    assert 0.5 < search.best_score_ <= 1


searched = st.lists(
    st.tuples(st.sampled_from("abxy"), st.sampled_from("ab"), st.integers(0, 5)),
    min_size=2,
    max_size=30,
).filter(lambda found: len({label in "ab" for label, *_ in found}) == 2)


@given(found=searched, target=st.sampled_from([0, 0.1, 0.25, 0.5, 0.9]))
def test_detection_identification_rate_at_every_threshold(found, target):
    """The best threshold that few enough strangers pass, tried one by one."""
    y, identities, distances = map(list, zip(*found, strict=True))
    strangers = [distance for label, _, distance in found if label in "xy"]
    known = [row for row in found if row[0] in "ab"]
    rates = [
        np.mean(
            [label == identity and distance <= threshold for label, identity, distance in known]
        )
        for threshold in np.arange(-0.5, 6, 0.5)
        if np.mean(np.array(strangers) <= threshold) <= target
    ]
    score = detection_identification_rate_score(
        y, identities, distances, enrolled=["a", "b"], target_fpir=target
    )
    assert score == pytest.approx(max(rates))


@pytest.mark.parametrize(("y", "reason"), [("aa", "no row is of"), ("xx", "every row is of")])
def test_detection_identification_rate_needs_strangers_and_others(y, reason):
    with pytest.warns(UndefinedMetricWarning, match=reason) as caught:
        rate = detection_identification_rate_score(list(y), ["a", "b"], [1, 2], enrolled=["a", "b"])
    assert np.isnan(rate)
    assert caught[0].filename == __file__
    said = str(caught[0].message)
    assert said.startswith("The detection and identification rate is undefined and set to NaN: ")


@pytest.mark.parametrize("shorter", range(3))
def test_detection_identification_rate_of_columns_that_do_not_fit(shorter):
    columns = [["a", "x"], ["a", "a"], [1, 2]]
    columns[shorter] = columns[shorter][:1]
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        detection_identification_rate_score(*columns, enrolled=["a"])


@pytest.mark.parametrize("target", [-0.1, 1, np.nan])
def test_detection_identification_rate_at_no_rate(target):
    with pytest.raises(ValueError, match=r"target_fpir must be a number >= 0 and < 1\. Got"):
        detection_identification_rate_score(["a"], ["a"], [1], enrolled=["a"], target_fpir=target)


@every_score
@pytest.mark.parametrize("y", [[np.nan, np.nan, 1, 1], [None] * 4, ["a", 1, "a", None]])
def test_missing_labels_are_no_class(name, y):
    with pytest.raises(ValueError, match=r"^y must hold"):
        SCORES[name](np.arange(4.0)[:, None], np.array(y, dtype=object))


def test_missing_groups_are_no_group():
    with pytest.raises(ValueError, match="groups must hold a value for each row"):
        recall_at_k_score(np.arange(4.0)[:, None], [0, 0, 1, 1], groups=[1.0, np.nan, 1, 2])


def test_a_rate_of_strangers_that_floating_point_numbers_miss():
    y = np.r_[np.zeros(100), np.ones(100)]
    distances = np.r_[np.arange(100.0) + 0.5, np.arange(100.0) + 1]
    settings = {"enrolled": [0], "target_fpir": 0.29}
    # 29 of 100 strangers are nearer than 30, and so are 30 of the enrolled.
    assert detection_identification_rate_score(y, np.zeros(200), distances, **settings) == 0.3
