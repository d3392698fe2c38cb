import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning

from sktriplet.metrics import mean_average_precision_at_r_score


def map_at_r_from_its_definition(embeddings, y):
    scores = []
    for query in range(len(y)):
        others = [row for row in range(len(y)) if row != query]
        others.sort(key=lambda row: (np.sum((embeddings[row] - embeddings[query]) ** 2), row))
        r = sum(y[row] == y[query] for row in others)
        if r == 0:
            continue
        total = 0
        for i in range(1, r + 1):
            if y[others[i - 1]] == y[query]:
                total += sum(y[row] == y[query] for row in others[:i]) / i
        scores.append(total / r)
    return np.mean(scores)


@given(
    points=st.lists(
        st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.sampled_from("abc")),
        min_size=2,
        max_size=25,
    ).filter(lambda points: len({label for *_, label in points}) < len(points))
)
def test_map_at_r_is_what_it_is_defined_to_be(points):
    embeddings = np.array([point[:2] for point in points], dtype=float)
    y = [label for *_, label in points]
    expected = map_at_r_from_its_definition(embeddings, y)
    assert mean_average_precision_at_r_score(embeddings, y) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("positions", "y", "expected"),
    [
        ([0, 1, 10, 11], "aabb", 1),
        ([0, 1, 10, 11], "abab", 0),
        # Each 'a' finds the other second, after the 'b', among R = 1 others: 0.
        ([0, 1, 3], "aba", 0),
        # The first 'a' has R = 2: a hit, then a miss: (1 / 1 + 0) / 2.
        ([0, 1, 1.5, 9], "aaba", np.mean([1 / 2, (0 + 1 / 2) / 2, (0 + 1 / 2) / 2])),
    ],
)
def test_map_at_r_by_hand(positions, y, expected):
    embeddings = np.array(positions, dtype=float)[:, None]
    assert mean_average_precision_at_r_score(embeddings, list(y)) == pytest.approx(expected)


def test_identical_points_are_ordered_by_index():
    # All at one place: row 0 finds row 1 first, a hit; row 1 finds 0; row 2 finds none.
    assert mean_average_precision_at_r_score(np.zeros((3, 2)), [0, 0, 1]) == 1
    assert mean_average_precision_at_r_score(np.zeros((3, 2)), [0, 1, 1]) == 0


def test_chunks_make_no_difference(rng):
    import sklearn

    embeddings, y = rng.normal(size=(300, 4)), rng.integers(5, size=300)
    whole = mean_average_precision_at_r_score(embeddings, y)
    with sklearn.config_context(working_memory=0.01):
        assert mean_average_precision_at_r_score(embeddings, y) == pytest.approx(whole)


def test_undefined_without_pairs():
    with pytest.warns(UndefinedMetricWarning, match="no row of y has another"):
        assert np.isnan(mean_average_precision_at_r_score(np.eye(3), [1, 2, 3]))
