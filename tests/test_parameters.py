import inspect
from numbers import Integral, Real

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import sktriplet
from sktriplet._parameters import CONSTRAINTS, HasMethods, Number, OneOf, SequenceOf
from sktriplet.exceptions import InvalidParameterError
from sktriplet.training._device import validate_device


@pytest.mark.parametrize("estimator", [getattr(sktriplet, name) for name in sktriplet.__all__])
def test_every_parameter_has_its_line_in_the_table(estimator):
    assert set(inspect.signature(estimator).parameters) <= set(CONSTRAINTS)


@pytest.mark.parametrize(
    ("constraint", "inside", "outside"),
    [
        (
            Number(Integral, 2),
            [2, 5, np.int32(3)],
            [1, 2.0, True, np.bool_(True), "2", None, np.array([3])],
        ),
        (
            Number(Real, 0),
            [0, 0.5, 1, np.float32(2)],
            [-1, np.nan, np.inf, False, "1", None, 1j, np.array([1.0])],
        ),
        (Number(Real, 0, includes_low=False), [1e-300, 1], [0, 0.0, -0.0, -1, np.nan]),
        (Number(Real, 0, includes_low=False, high=1), [1e-9, 0.5], [0, 1, 1.5, np.nan]),
        (OneOf(["a", "b"]), ["a", "b"], ["c", "", None, 0, np.array(["a"])]),
        (OneOf([None]), [None], [False, 0, ""]),
        (SequenceOf(Number(Integral, 1)), [(), [1, 2], (3,)], [(0,), "12", 5, [1.5], {1: 2}]),
        (SequenceOf(Number(Integral, 1), 2), [(1, 2), [3, 4]], [(), (1,), (1, 2, 3), (1, 0)]),
        (HasMethods(("fit", "transform")), [StandardScaler()], [StandardScaler, LinearSVC(), 1]),
    ],
    ids=str,
)
def test_constraints(constraint, inside, outside):
    assert all(value in constraint for value in inside)
    for value in outside:
        assert value not in constraint, value


def test_device():
    assert validate_device("cpu") == torch.device("cpu")
    assert validate_device(torch.device("cpu")) == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps"
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        expected = "cpu"
    assert validate_device("auto") == torch.device(expected)
    with pytest.raises(InvalidParameterError, match=r"'device'.*'gpu'"):
        validate_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_device_that_is_not_there():
    with pytest.raises(InvalidParameterError, match=r"'device'.*'cuda'"):
        validate_device("cuda")


def test_a_subclass_may_have_parameters_of_its_own(blobs):
    class Own(sktriplet.TripletEmbedder):
        def __init__(self, extra=None, *, max_epochs=1):
            super().__init__(max_epochs=max_epochs)
            self.extra = extra

    with pytest.raises(InvalidParameterError, match="'max_epochs' parameter of Own"):
        Own(extra=3, max_epochs=0).fit(*blobs)
    assert Own(extra=3).fit(*blobs).transform(blobs[0]).shape == (len(blobs[0]), 64)
