import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sktriplet.distances import sqeuclidean
from sktriplet.losses import TripletLoss, TripletNCALoss, nca_loss
from sktriplet.mining import Triplets


def nca_by_loops(distances, labels, temperature):
    losses = []
    for i, label in enumerate(labels):
        others = [j for j in range(len(labels)) if j != i]
        positives = [j for j in others if labels[j] == label]
        if positives:
            total = sum(math.exp(-distances[i][j] / temperature) for j in others)
            of_class = sum(math.exp(-distances[i][j] / temperature) for j in positives)
            losses.append(-math.log(of_class / total))
    return sum(losses) / len(losses) if losses else 0.0


@given(
    st.lists(st.integers(0, 2), max_size=6),
    st.sampled_from([0.1, 1.0, 7.0]),
    st.integers(0, 9),
)
def test_nca_loss_matches_definition(labels, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    size = (len(labels), len(labels))
    distances = 4 * torch.rand(size, generator=generator, dtype=torch.float64)
    loss = nca_loss(distances, torch.tensor(labels, dtype=torch.int64), temperature)
    expected = nca_by_loops(distances.tolist(), labels, temperature)
    assert loss.item() == pytest.approx(expected, abs=1e-9)


def test_nca_loss_gradient():
    distances = torch.rand(5, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda d: nca_loss(d, labels, 0.5), distances)


def test_nca_loss_of_distant_samples_is_finite():
    distances = torch.tensor([[0.0, 1e4, 1], [1e4, 0, 1e4], [1, 1e4, 0]], requires_grad=True)
    loss = nca_loss(distances, torch.tensor([0, 0, 1]), 0.1)
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(distances.grad).all()


def test_nca_loss_without_pairs():
    """The loss is zero and still connected to the graph."""
    distances = torch.rand(3, 3, requires_grad=True)
    loss = nca_loss(distances, torch.arange(3), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(distances.grad, torch.zeros(3, 3))


def test_nca_loss_does_not_change_distances():
    distances = torch.ones(3, 3)
    nca_loss(distances, torch.tensor([0, 0, 1]), 1.0)
    assert torch.equal(distances, torch.ones(3, 3))


class TestTripletNCALoss:
    @pytest.mark.parametrize("mining", ["semi_hard", "hard", "random", "all"])
    @pytest.mark.parametrize("reduction", ["active_mean", "mean", "sum"])
    def test_nca_term_is_added(self, mining, reduction, make_batch):
        """Its temperature is proportional to the margin, which makes it scale-invariant."""
        embeddings, labels = make_batch()

        def loss_of(make_loss, margin=0.5, scale=1.0, **parameters):
            generator = torch.Generator().manual_seed(0)
            criterion = make_loss(
                margin, mining=mining, reduction=reduction, generator=generator, **parameters
            )
            return criterion(scale * embeddings, labels)

        term = nca_loss(sqeuclidean(embeddings), labels, temperature=0.2)
        expected = loss_of(TripletLoss) + 3 * term
        assert loss_of(TripletNCALoss, nca_weight=3.0).item() == pytest.approx(expected.item())
        scaled = loss_of(TripletNCALoss, margin=2.0, scale=2.0, nca_weight=3.0)
        scaled -= loss_of(TripletLoss, margin=2.0, scale=2.0)
        assert scaled.item() == pytest.approx(3 * term.item())

    def test_zero_nca_weight(self, make_batch):
        batch = make_batch()
        assert torch.equal(TripletNCALoss(nca_weight=0)(*batch), TripletLoss()(*batch))

    def test_no_nca_term_for_given_triplets(self, make_batch):
        embeddings, _ = make_batch()
        triplets = Triplets(*torch.tensor([[0, 1], [2, 3], [4, 5]]))
        losses = [make()(embeddings, triplets=triplets) for make in (TripletLoss, TripletNCALoss)]
        assert torch.equal(*losses)

    def test_repr(self):
        assert "nca_weight=1.5" in repr(TripletNCALoss(nca_weight=1.5))

    @pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, None])
    def test_invalid_nca_weight(self, value):
        with pytest.raises((TypeError, ValueError), match=f"nca_weight.*{value}"):
            TripletNCALoss(nca_weight=value)


def test_nca_loss_of_infinitely_distant_positives():
    distances = torch.tensor([[0.0, torch.inf, 1], [torch.inf, 0, 1], [1, 1, 0]])
    assert nca_loss(distances, torch.tensor([0, 0, 1]), 1.0) == torch.inf
