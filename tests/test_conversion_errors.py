import numpy as np
import pandas as pd
import pytest
import torch

from sktriplet._conversion_errors import check_supported, explained_errors


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (torch.utils.data.DataLoader([1]), "Got DataLoader"),
        (pd.Series([np.zeros((4, 4))] * 3), "np.stack"),
        ("folder", "load_image_folder"),
        ({"a": [1]}, r"dict with the keys \['a'\]"),
    ],
    ids=["loader", "column of arrays", "path", "dict"],
)
def test_explained_errors(X, match):
    with (
        pytest.raises(ValueError, match=f"X must hold numbers.*{match}"),
        explained_errors("X", X),
    ):
        raise ValueError


def test_other_errors_are_not_changed():
    error = ValueError("other")
    with pytest.raises(ValueError, match=r"^other$") as record, explained_errors("X", np.eye(2)):
        raise error
    assert record.value is error


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (pd.DataFrame({"a": pd.date_range("2020", periods=3)}), "dates or times in column 'a'"),
        (pd.DataFrame({"a": [[1], [2]]}), "lists or other collections in column 'a'"),
        (np.array(["2020"], "datetime64[Y]"), "dates or times"),
    ],
)
def test_check_supported(X, match):
    with pytest.raises(ValueError, match=f"^table must hold numbers.*{match}"):
        check_supported(X, "table")
