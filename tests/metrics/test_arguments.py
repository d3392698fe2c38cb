"""Invalid arguments of all metrics, and valid ones of unusual types."""

import numpy as np
import pandas as pd
import pytest

from sktriplet.exceptions import InvalidParameterError
from sktriplet.metrics import (
    cumulative_match_characteristic_curve,
    detection_identification_rate_score,
    mean_average_precision_at_r_score,
    mean_average_precision_score,
    mean_reciprocal_rank_score,
    normalized_discounted_cumulative_gain_score,
    precision_at_k_score,
    r_precision_score,
    recall_at_k_score,
)

X, Y = np.eye(3), np.array([1, 1, 2], dtype=np.int64)
RETRIEVAL_SCORES = [
    recall_at_k_score,
    precision_at_k_score,
    r_precision_score,
    mean_average_precision_at_r_score,
    mean_average_precision_score,
    mean_reciprocal_rank_score,
    normalized_discounted_cumulative_gain_score,
]
every_score = pytest.mark.parametrize("score", RETRIEVAL_SCORES)
every_function = pytest.mark.parametrize(
    "score", [*RETRIEVAL_SCORES, cumulative_match_characteristic_curve]
)
REFERENCE = {"reference": X, "reference_y": Y}
INVALID = {
    "None": ({"embeddings": None}, "2D array"),
    "one dimension": ({"embeddings": X[0]}, "1D array"),
    "no samples": ({"embeddings": X[:0], "y": []}, "0 sample"),
    "NaN": ({"embeddings": X * np.nan}, "embeddings contains NaN"),
    "infinity": ({"embeddings": X + np.inf}, "embeddings contains infinity"),
    "NaN in reference": ({**REFERENCE, "reference": X * np.nan}, "reference contains NaN"),
    "short y": ({"y": [1, 2]}, r"^y .*, 3\. Got 2"),
    "two-dimensional y": ({"y": X}, "1d array"),
    "NaN in y": ({"y": np.array([1, 1, np.nan], object)}, "^y must not have missing"),
    "None in y": ({"y": [None, None, None]}, "^y must not .*missing"),
    "None among text in y": ({"y": np.array(["a", "a", None], object)}, "^y must not .*missing"),
    "pandas NA in y": ({"y": pd.array([1, 1, None], dtype="Int64")}, "^y must not have missing"),
    "mixed y": ({"y": np.array(["a", 1, "a"], object)}, "^y must not mix types"),
    "short groups": ({"groups": [1]}, r"^groups .*, 3\. Got 1"),
    "NaN in groups": ({"groups": [1.0, 2.0, np.nan]}, "^groups must not have missing"),
    "reference without y": ({"reference": X}, "^reference requires reference_y"),
    "y without reference": ({"reference_y": Y}, "^reference_y requires reference"),
    "groups without reference": ({"reference_groups": Y}, "^reference_groups requires reference"),
    "features": ({**REFERENCE, "reference": X[:, :2]}, r"^reference .*Got 2 instead of 3"),
    "short reference_y": ({**REFERENCE, "reference_y": [1, 2]}, r"^reference_y .*, 3\. Got 2"),
    "types": ({**REFERENCE, "reference_y": ["1", "2", "3"]}, "y and reference_y .*int64 and <U1"),
    "query groups": ({**REFERENCE, "groups": Y}, "Got only groups"),
    "reference groups": ({**REFERENCE, "reference_groups": Y}, "Got only reference_groups"),
    "short reference_groups": (
        {**REFERENCE, "groups": Y, "reference_groups": [1]},
        r"^reference_groups .*, 3\. Got 1",
    ),
    "types of groups": (
        {**REFERENCE, "groups": Y, "reference_groups": ["1", "2", "3"]},
        "groups and reference_groups .*int64 and <U1",
    ),
}


@every_function
@pytest.mark.parametrize("name", INVALID)
def test_retrieval_scores_with_invalid_arrays(score, name):
    arguments, message = INVALID[name]
    arguments = {"embeddings": X, "y": Y} | arguments
    with pytest.raises(ValueError, match=message):
        score(arguments.pop("embeddings"), arguments.pop("y"), **arguments)


@every_function
@pytest.mark.parametrize("metric", ["cityblock", None, 2])
def test_retrieval_scores_with_invalid_metric(score, metric):
    with pytest.raises(InvalidParameterError, match=rf"'metric'.*'euclidean'.* Got {metric!r}"):
        score(X, Y, metric=metric)


@every_score
@pytest.mark.parametrize("average", ["micro", "weighted", True, 1])
def test_retrieval_scores_with_invalid_average(score, average):
    with pytest.raises(InvalidParameterError, match=rf"'average'.*'macro'.* Got {average!r}"):
        score(X, Y, average=average)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "1", None])
@pytest.mark.parametrize(
    ("score", "name"),
    [
        (recall_at_k_score, "k"),
        (precision_at_k_score, "k"),
        (normalized_discounted_cumulative_gain_score, "k"),
        (cumulative_match_characteristic_curve, "max_rank"),
    ],
)
def test_retrieval_scores_with_invalid_k(score, name, k):
    if k is None and score is normalized_discounted_cumulative_gain_score:
        pytest.skip("None means all ranks")
    with pytest.raises(InvalidParameterError, match=rf"'{name}' .*\[1, inf\).* Got {k!r}"):
        score(X, Y, **{name: k})


@every_score
@pytest.mark.parametrize(
    "y",
    [["b", "b", "a"], pd.Series(["b", "b", "a"]), np.array(["b", "b", "a"], object)],
    ids=["list", "pandas", "objects"],
)
def test_retrieval_scores_with_text_labels(score, y):
    """They may also be compared with objects."""
    expected = score(X, np.unique(np.asarray(y, dtype=str), return_inverse=True)[1])
    assert score(X, y) == expected
    reference = {"reference": X, "reference_y": np.array(["b", "a", "b"], dtype=object)}
    assert score(X, y, **reference) == score(X, list(y), **reference)


@pytest.mark.parametrize("short", range(3))
def test_detection_identification_rate_with_inconsistent_lengths(short):
    columns = [["a", "x"], ["a", "a"], [1, 2]]
    columns[short] = columns[short][:1]
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        detection_identification_rate_score(*columns, enrolled=["a"])


@pytest.mark.parametrize("target", [-0.1, 1, np.nan, True, "0.1", None])
def test_detection_identification_rate_with_invalid_target(target):
    with pytest.raises(InvalidParameterError, match=rf"'target_fpir' .* Got {target!r}"):
        detection_identification_rate_score(["a"], ["a"], [1], enrolled=["a"], target_fpir=target)
