import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sktriplet.losses import nca_loss


def by_loops(distances, labels, temperature):
    losses = []
    for i, label in enumerate(labels):
        others = [j for j in range(len(labels)) if j != i]
        alike = [j for j in others if labels[j] == label]
        if alike:
            total = sum(math.exp(-distances[i][j] / temperature) for j in others)
            of_class = sum(math.exp(-distances[i][j] / temperature) for j in alike)
            losses.append(-math.log(of_class / total))
    return sum(losses) / len(losses) if losses else 0.0


@given(
    st.lists(st.integers(0, 2), max_size=6),
    st.sampled_from([0.1, 1.0, 7.0]),
    st.integers(0, 9),
)
def test_agrees_with_a_double_loop(labels, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    size = (len(labels), len(labels))
    distances = 4 * torch.rand(size, generator=generator, dtype=torch.float64)
    loss = nca_loss(distances, torch.tensor(labels, dtype=torch.int64), temperature)
    assert loss.item() == pytest.approx(by_loops(distances.tolist(), labels, temperature), abs=1e-9)


def test_gradient():
    distances = torch.rand(5, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda d: nca_loss(d, labels, 0.5), distances)


def test_far_rows_leave_finite_gradients():
    distances = torch.tensor([[0.0, 1e4, 1], [1e4, 0, 1e4], [1, 1e4, 0]], requires_grad=True)
    loss = nca_loss(distances, torch.tensor([0, 0, 1]), 0.1)
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(distances.grad).all()


def test_a_batch_without_pairs_gives_a_connected_zero():
    distances = torch.rand(3, 3, requires_grad=True)
    loss = nca_loss(distances, torch.arange(3), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(distances.grad, torch.zeros(3, 3))


def test_distances_are_left_as_they_are():
    distances = torch.ones(3, 3)
    nca_loss(distances, torch.tensor([0, 0, 1]), 1.0)
    assert torch.equal(distances, torch.ones(3, 3))
