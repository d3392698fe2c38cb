import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sktriplet.recognition._labeled_samples import check_collection, validate_labeled_samples

LABELS = np.array([0, 1, 1])


class Owner:
    """Any estimator."""


class TestValidateLabeledSamples:
    @pytest.mark.parametrize(
        "X",
        [
            ["a", "b", "c"],
            [[1], [2], [3]],
            pd.DataFrame({"a": ["x", "y", None]}),
            np.zeros((3, 2, 2), np.uint8),
            np.array([["a", 1]] * 3, object),
            sparse.csr_matrix(np.eye(3)),
        ],
    )
    def test_samples_are_not_changed(self, X):
        samples = validate_labeled_samples(Owner(), X, ["a", "b", "b"], ["t", "s", "t"])
        assert samples.X is X
        assert samples.y.tolist() == ["a", "b", "b"]
        assert samples.labels.tolist() == [0, 1, 1]
        assert samples.groups.tolist() == [1, 0, 1]

    def test_sparse_is_made_indexable(self):
        assert check_collection(sparse.coo_array(np.eye(3)), "Owner").format == "csr"

    @pytest.mark.parametrize(
        ("X", "match"),
        [
            (None, "X must hold samples.* Got None"),
            ("abc", "X must hold samples.* Got 'abc'"),
            ({"a": [1]}, "X must hold samples"),
            (np.float64(3), "X must hold samples"),
            ([[1]], "1 sample.* minimum of 2 is required by Owner"),
            (np.zeros((3, 0)), "0 feature.* minimum of 1 is required by Owner"),
            ([[1], [2]], r"\[2, 3\]"),
        ],
    )
    def test_invalid(self, X, match):
        with pytest.raises(ValueError, match=match):
            validate_labeled_samples(Owner(), X, LABELS)
