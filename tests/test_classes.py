import numpy as np
import pytest

from sktriplet._classes import merge_classes


class TestMergeClasses:
    @pytest.mark.parametrize(
        ("known", "new", "expected"),
        [
            ([3, 1], [2, 3], [1, 2, 3]),
            ([1], [0.5], [0.5, 1]),
            (["b"], ["aa"], ["aa", "b"]),
            (["b"], np.array(["aa"], object), ["aa", "b"]),
            (np.array(["aa"], object), ["b"], ["aa", "b"]),
        ],
    )
    def test_union(self, known, new, expected):
        assert merge_classes(np.asarray(known), np.asarray(new)).tolist() == expected

    @pytest.mark.parametrize(
        ("known", "new"), [(["b"], np.array([1], object)), ([1], ["a"]), (["a"], [1.5])]
    )
    def test_other_types(self, known, new):
        with pytest.raises(ValueError, match=r"labels in y .*type"):
            merge_classes(np.asarray(known), np.asarray(new))
