import inspect
from numbers import Integral, Real

import numpy as np
import pytest

import sktriplet
from sktriplet._parameters import Interval, SequenceOf, validate_parameters
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import ContrastiveLoss, TripletLoss, TripletNCALoss
from sktriplet.training import BalancedBatchSampler

ESTIMATORS = [getattr(sktriplet, name) for name in sktriplet.__all__ if name != "Pairs"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_parameter_constraints_of_estimators(estimator):
    assert set(inspect.signature(estimator).parameters) == set(estimator._parameter_constraints)


@pytest.mark.parametrize(
    "component", [TripletLoss, TripletNCALoss, ContrastiveLoss, BalancedBatchSampler]
)
def test_parameter_constraints_of_components(component):
    unchecked = {"labels", "generator", "kwargs"}
    assert set(inspect.signature(component).parameters) - unchecked <= set(
        component._parameter_constraints
    )


@pytest.mark.parametrize(
    ("constraint", "valid", "invalid"),
    [
        (
            Interval(Integral, 2, None, closed="left"),
            [2, 5, np.int32(3)],
            [1, 2.0, True, np.bool_(True), "2", None, np.array([3])],
        ),
        (
            Interval(Real, 0, None, closed="left"),
            [0, 0.5, 1, np.float32(2)],
            [-1, np.nan, np.inf, False, "1", None, 1j, np.array([1.0])],
        ),
        (
            Interval(Real, 0, None, closed="neither"),
            [1e-300, 1],
            [0, 0.0, -0.0, -1, np.nan, np.inf],
        ),
        (Interval(Real, 0, 1, closed="neither"), [1e-9, 0.5], [0, 1, 1.5, np.nan]),
        (
            SequenceOf(Interval(Integral, 1, None, closed="left")),
            [(), [1, 2], (3,), np.array([4, 5])],
            [(0,), "12", 5, [1.5], {1: 2}, (True,), np.array([[1]])],
        ),
        (
            SequenceOf(Interval(Integral, 1, None, closed="left"), length=2),
            [(1, 2), [3, 4]],
            [(), (1,), (1, 2, 3), (1, 0)],
        ),
    ],
    ids=str,
)
def test_constraint(constraint, valid, invalid):
    for value in valid:
        assert constraint.is_satisfied_by(value), value
    for value in invalid:
        assert not constraint.is_satisfied_by(value), value


def test_validate_parameters():
    class Owner:
        _parameter_constraints = {  # noqa: RUF012
            "size": [Interval(Integral, 1, None, closed="left"), None],
            "sizes": [SequenceOf(Interval(Integral, 1, None, closed="left"), length=3)],
        }

    validate_parameters(Owner(), size=3)
    validate_parameters(Owner(), size=None, sizes=(1, 2, 3))
    with pytest.raises(InvalidParameterError, match=r"'size' parameter of Owner.*Got 0"):
        validate_parameters(Owner(), size=0)
    with pytest.raises(InvalidParameterError, match=r"'sizes' parameter of Owner.*3.*Got \(1,\)"):
        validate_parameters(Owner(), sizes=(1,))


def test_subclass_with_own_parameters(blobs):
    class Own(sktriplet.TripletEmbedder):
        def __init__(self, extra=None, *, max_epochs=1):
            super().__init__(max_epochs=max_epochs)
            self.extra = extra

    with pytest.raises(InvalidParameterError, match="'max_epochs' parameter of Own"):
        Own(extra=3, max_epochs=0).fit(*blobs)
    assert Own(extra=3).fit(*blobs).transform(blobs[0]).shape == (len(blobs[0]), 64)
