import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from sktriplet.losses import hinge, soft_margin

ORACLES = {
    hinge: lambda ap, an, margin: max(ap - an + margin, 0),
    soft_margin: lambda ap, an, margin: math.log(1 + math.exp(ap - an)),
}
distance = st.floats(-20, 20, width=32)


@pytest.mark.parametrize("loss", ORACLES)
@given(
    pairs=st.lists(st.tuples(distance, distance), max_size=8),
    margin=st.floats(0.125, 4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(deadline=None, max_examples=60)
def test_elementwise_loss_matches_definition(loss, pairs, margin, dtype):
    d_ap, d_an = torch.tensor(pairs, dtype=dtype).reshape(-1, 2).T
    expected = [ORACLES[loss](ap, an, margin) for ap, an in pairs]
    found = loss(d_ap, d_an, margin)
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.tensor(expected, dtype=dtype), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", ORACLES)
def test_elementwise_loss_gradient(loss):
    d_ap = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    d_an = torch.tensor([0.5, 1.1, 9.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda ap, an: loss(ap, an, 0.2), (d_ap, d_an))


def test_hinge_of_collapsed_embedding_is_margin():
    zero = torch.zeros(3)
    assert torch.equal(hinge(zero, zero, 0.5), torch.full((3,), 0.5))


def test_hinge_is_zero_at_margin():
    d_ap = torch.tensor([1.0], requires_grad=True)
    loss = hinge(d_ap, torch.tensor([1.5]), 0.5)
    loss.sum().backward()
    assert loss.item() == 0
    assert d_ap.grad.item() == 0


def test_soft_margin_does_not_overflow():
    far, near = torch.tensor([1e4, 0.0]), torch.tensor([0.0, 1e4])
    assert torch.equal(soft_margin(far, near), torch.tensor([1e4, 0.0]))
