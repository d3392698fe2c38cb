import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from sktriplet.distances import DISTANCES, cosine, euclidean, sqeuclidean


def squared(x, y):
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def cosine_of(x, y):
    lengths = (squared(x, [0] * len(x)) * squared(y, [0] * len(y))) ** 0.5
    return 1 - (sum(a * b for a, b in zip(x, y, strict=True)) / lengths if lengths else 0)


ORACLES = {
    "sqeuclidean": squared,
    "euclidean": lambda x, y: squared(x, y) ** 0.5,
    "cosine": cosine_of,
}


@pytest.fixture(params=DISTANCES)
def metric(request):
    return request.param


def make_points(n_points, width=3, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_points, width, generator=generator, dtype=dtype)


@given(
    points=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(-3, 3), min_size=width, max_size=width), min_size=1, max_size=7
        )
    ),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
@settings(deadline=None, max_examples=60)
def test_matches_definition(points, dtype):
    for name, distance in DISTANCES.items():
        found = distance(torch.tensor(points, dtype=dtype))
        expected = [[ORACLES[name](x, y) if x is not y else 0 for x in points] for y in points]
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        tolerance = 1e-3 if name == "euclidean" and dtype != torch.float64 else 2e-5
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=1e-5)


def test_symmetric_and_not_negative(metric):
    distances = DISTANCES[metric](make_points(300, 32, dtype=torch.float32))
    assert torch.equal(distances, distances.T)
    assert not distances.diagonal().any()
    assert not torch.signbit(distances).any()


def test_near_duplicates_are_not_negative(metric):
    points = make_points(100, 8, dtype=torch.float32)
    nearly_equal = points + 1e-5 * make_points(100, 8, seed=1, dtype=torch.float32)
    distances = DISTANCES[metric](torch.cat((points, nearly_equal)))
    assert not torch.signbit(distances).any()


@pytest.mark.parametrize("width", [1, 2, 7, 31, 32, 33, 64])
def test_duplicates_have_distance_zero(width):
    once = make_points(65, width, dtype=torch.float32) + 3
    both = torch.cat((once, once))
    for distance in (sqeuclidean, euclidean, cosine):
        assert not distance(both).diagonal(65).any()


def test_gradient(metric):
    points = make_points(6).requires_grad_()
    assert gradcheck(DISTANCES[metric], points)
    assert gradgradcheck(DISTANCES[metric], points)


@pytest.mark.parametrize(
    "points",
    [torch.zeros(4, 3), torch.ones(4, 3), torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])],
    ids=["zeros", "ones", "mixed"],
)
def test_gradient_of_duplicates_is_finite(metric, points):
    points = points.clone().requires_grad_()
    DISTANCES[metric](points).sum().backward()
    assert points.grad.isfinite().all()
    assert points.grad.abs().max() < 100


def test_gradient_between_duplicates_is_zero(metric):
    points = torch.tensor([[1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    DISTANCES[metric](points)[0, 1].backward()
    torch.testing.assert_close(points.grad, torch.zeros(2, 2))


def test_translation():
    points = make_points(50, 8, dtype=torch.float32)
    for distance in (sqeuclidean, euclidean):
        near, far = distance(points), distance(points + 1000)
        torch.testing.assert_close(near, far, atol=1e-2, rtol=1e-3)
    assert not torch.allclose(cosine(points), cosine(points + 1000), atol=1e-2)


def test_scaling(metric):
    points, power = make_points(20), {"sqeuclidean": 2, "euclidean": 1, "cosine": 0}[metric]
    distance = DISTANCES[metric]
    torch.testing.assert_close(distance(3 * points), 3.0**power * distance(points))


def test_sqeuclidean_is_twice_cosine_on_sphere():
    points = torch.nn.functional.normalize(make_points(20), dim=1)
    torch.testing.assert_close(sqeuclidean(points), 2 * cosine(points))


def test_cosine_of_zero_vector_is_one():
    distances = cosine(torch.tensor([[0.0, 0.0], [0.0, 0.0], [2.0, 1.0]]))
    assert torch.equal(distances, 1 - torch.eye(3).where(torch.eye(3) > 0, 0))


def test_autocast_uses_float32(metric):
    points = make_points(10, 64, dtype=torch.float32).requires_grad_()
    expected = DISTANCES[metric](points)
    (gradient,) = torch.autograd.grad(DISTANCES[metric](points.double()).square().sum(), points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = DISTANCES[metric](points)
        (gradient_found,) = torch.autograd.grad(found.square().sum(), points)
    assert torch.equal(found, expected)
    torch.testing.assert_close(gradient_found, gradient, rtol=1e-4, atol=1e-4)


def test_half_precision_gradient(metric):
    points = make_points(10, dtype=torch.bfloat16).requires_grad_()
    DISTANCES[metric](points).sum().backward()
    assert points.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("size", [0, 1])
def test_batches_without_pairs(metric, size):
    points = torch.ones(size, 3, requires_grad=True)
    distances = DISTANCES[metric](points)
    assert distances.shape == (size, size)
    distances.sum().backward()
    assert torch.equal(points.grad, torch.zeros(size, 3))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_non_finite_values_propagate(metric, bad):
    points = make_points(5, dtype=torch.float32)
    points[2] = bad
    distances = DISTANCES[metric](points)
    assert distances.shape == (5, 5)
    assert distances[2, :2].isnan().all()
