import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from sktriplet.distances import sqeuclidean
from sktriplet.losses import TripletLoss, hinge
from sktriplet.mining import MINERS, Triplets, hard

METRICS = ["sqeuclidean", "euclidean", "cosine"]
MINING = ["semi_hard", "hard", "random", "all"]
DETERMINISTIC_MINING = ["semi_hard", "hard", "all"]
LOSSES = ["hinge", "soft_margin"]
REDUCTIONS = ["active_mean", "mean", "sum"]


# The definitions, as loops.


def all_triplets(labels):
    rows = range(len(labels))
    return [
        (a, p, n)
        for a in rows
        for p in rows
        for n in rows
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]
    ]


def semi_hard_triplets(distances, labels, margin):
    nearest = {}
    for a, p, n in all_triplets(labels):
        if distances[a][p] < distances[a][n] < distances[a][p] + margin and (
            (a, p) not in nearest or distances[a][n] < distances[a][nearest[a, p]]
        ):
            nearest[a, p] = n
    return [(a, p, n) for (a, p), n in nearest.items()]


def hard_triplets(distances, labels):
    of_anchor = {}
    for a, p, n in all_triplets(labels):
        positive, negative = of_anchor.get(a, (p, n))
        of_anchor[a] = (
            p if distances[a][p] > distances[a][positive] else positive,
            n if distances[a][n] < distances[a][negative] else negative,
        )
    return [(a, p, n) for a, (p, n) in of_anchor.items()]


def triplets_by_loops(mining, distances, labels, margin):
    return {
        "semi_hard": lambda: semi_hard_triplets(distances, labels, margin),
        "hard": lambda: hard_triplets(distances, labels),
        "all": lambda: all_triplets(labels),
    }[mining]()


def n_possible_by_loops(mining, labels):
    """Count the triplets that a strategy could have found."""
    rows = range(len(labels))
    pairs = [(a, p) for a in rows for p in rows if a != p and labels[a] == labels[p]]
    return {
        "semi_hard": len(pairs),
        "hard": len({a for a, _ in pairs}),
        "all": len(all_triplets(labels)),
    }[mining]


def loss_by_loops(distances, triplets, n_possible, loss, margin, reduction):
    """Return the reduced loss and the fraction of active triplets, given a tensor of distances."""
    losses = []
    for difference in [distances[a, p] - distances[a, n] for a, p, n in triplets]:
        if loss == "soft_margin":
            losses.append(torch.log1p(torch.exp(difference)))
        elif difference + margin > 0:
            losses.append(difference + margin)
    total = sum(losses, distances.sum() * 0)
    divisor = {"sum": 1, "mean": n_possible, "active_mean": len(losses)}[reduction]
    return total / max(divisor, 1), len(losses) / len(triplets) if triplets else math.nan


@pytest.mark.parametrize("mining", DETERMINISTIC_MINING)
@given(
    data=st.data(),
    margin=st.sampled_from([0.5, 1.0, 4.0, 50.0]),
    loss=st.sampled_from(LOSSES),
    reduction=st.sampled_from(REDUCTIONS),
)
@settings(deadline=None, max_examples=60)
def test_triplet_loss_matches_definition(
    batches, exact_sqeuclidean, mining, data, margin, loss, reduction
):
    embeddings, labels = data.draw(batches)
    ours, theirs = (embeddings.clone().requires_grad_() for _ in range(2))
    criterion = TripletLoss(
        margin, mining=mining, metric=exact_sqeuclidean, loss=loss, reduction=reduction
    )
    found = criterion(ours, labels)
    distances = exact_sqeuclidean(theirs)
    triplets = triplets_by_loops(mining, distances.tolist(), labels.tolist(), margin)
    n_possible = n_possible_by_loops(mining, labels.tolist())
    expected, active = loss_by_loops(distances, triplets, n_possible, loss, margin, reduction)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-5)

    statistics = {name: value.item() for name, value in criterion.statistics.items()}
    assert statistics["active_fraction"] == pytest.approx(active, nan_ok=True)
    for name, other in ("d_ap", 1), ("d_an", 2):
        lengths = [distances[triplet[0], triplet[other]].item() for triplet in triplets]
        mean = sum(lengths) / len(lengths) if lengths else math.nan
        assert statistics[name] == pytest.approx(mean, rel=1e-5, abs=1e-5, nan_ok=True)
    fraction = len(triplets) / n_possible if n_possible else math.nan
    assert statistics["triplet_fraction"] == pytest.approx(fraction, nan_ok=True)


@pytest.mark.parametrize("loss", ["hinge", lambda d_ap, d_an, margin: hinge(d_ap, d_an, margin)])
@pytest.mark.parametrize(
    ("mining", "total", "triplets", "active", "d_ap", "d_an", "found"),
    [
        ("semi_hard", 0, 0, 0, math.nan, math.nan, 0),
        ("hard", 34, 4, 1, 18.5, 20.25, 1),
        ("all", 63, 8, 2, 18.5, 39.5, 1),
    ],
)
def test_triplet_loss_of_four_points(loss, mining, total, triplets, active, d_ap, d_an, found):
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [9.0]])
    labels = torch.tensor([0, 0, 1, 1])
    for reduction, divisor in ("sum", 1), ("mean", triplets), ("active_mean", active):
        criterion = TripletLoss(2, mining=mining, loss=loss, reduction=reduction)
        expected = total / max(divisor, 1)
        assert criterion(embeddings, labels).item() == pytest.approx(expected, rel=1e-5)
        statistics = {name: value.item() for name, value in criterion.statistics.items()}
        assert statistics == pytest.approx(
            {
                "triplet_fraction": found,
                "active_fraction": active / triplets if triplets else math.nan,
                "d_ap": d_ap,
                "d_an": d_an,
                "spread": 12.1875**0.5,
            },
            nan_ok=True,
        )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("loss", LOSSES)
def test_triplet_loss_gradient(metric, mining, loss, make_batch):
    embeddings, labels = make_batch(10, 3)

    def seeded(points):
        generator = torch.Generator().manual_seed(0)
        criterion = TripletLoss(0.5, mining=mining, metric=metric, loss=loss, generator=generator)
        return criterion(points, labels)

    assert gradcheck(seeded, embeddings.requires_grad_())


def test_triplet_loss_second_derivatives(make_batch):
    embeddings, labels = make_batch(8, 3)
    criterion = TripletLoss(0.5)
    assert gradgradcheck(lambda points: criterion(points, labels), embeddings.requires_grad_())


@pytest.mark.parametrize("mining", DETERMINISTIC_MINING)
@pytest.mark.parametrize("loss", LOSSES)
def test_triplet_loss_is_permutation_equivariant(mining, loss, make_batch):
    embeddings, labels = make_batch()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    criterion = TripletLoss(mining=mining, loss=loss)
    one, other = embeddings.clone().requires_grad_(), embeddings[order].requires_grad_()
    first, second = criterion(one, labels), criterion(other, labels[order])
    torch.testing.assert_close(first, second)
    first.backward()
    second.backward()
    torch.testing.assert_close(one.grad[order], other.grad)


@pytest.mark.parametrize(("metric", "power"), [("sqeuclidean", 2), ("euclidean", 1), ("cosine", 0)])
@pytest.mark.parametrize("mining", DETERMINISTIC_MINING)
def test_triplet_loss_scaling_and_translation(metric, power, mining, make_batch):
    embeddings, labels = make_batch()
    once = TripletLoss(0.5, mining=mining, metric=metric)(embeddings, labels)
    factor = 2.0**power
    scaled = TripletLoss(0.5 * factor, mining=mining, metric=metric)(2 * embeddings, labels)
    torch.testing.assert_close(scaled, factor * once)
    moved = TripletLoss(0.5, mining=mining, metric=metric)(embeddings + 3, labels)
    assert torch.isclose(moved, once).item() == (metric != "cosine")


def test_triplet_loss_label_values_and_dtypes(make_batch):
    embeddings, labels = make_batch()
    expected = TripletLoss()(embeddings, labels)
    renamed = torch.tensor([2**40, -7, 0])[labels]
    assert torch.equal(TripletLoss()(embeddings, renamed), expected)
    assert torch.equal(TripletLoss()(embeddings, labels.repeat_interleave(2)[::2]), expected)
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.uint16):
        assert torch.equal(TripletLoss()(embeddings, labels.to(dtype)), expected)


class TestGivenTriplets:
    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
    def test_triplets(self, dtype, make_batch):
        """Nothing is mined, and duplicates count twice."""
        embeddings, _ = make_batch(6)
        indices = torch.tensor([[0, 0, 1, 2], [1, 1, 2, 2], [3, 3, 5, 4]], dtype=dtype)
        criterion = TripletLoss(0.5, reduction="sum")
        loss = criterion(embeddings, triplets=tuple(indices))
        distances = sqeuclidean(embeddings)
        expected = sum(
            hinge(distances[a, p], distances[a, n], 0.5) for a, p, n in indices.T.long().tolist()
        )
        torch.testing.assert_close(loss, expected)
        assert criterion.statistics["triplet_fraction"] == 1
        assert not criterion.statistics["d_ap"].isnan()

    def test_empty(self, make_batch):
        embeddings, _ = make_batch(6)
        none = torch.empty(0, dtype=torch.int64)
        loss = TripletLoss()(embeddings.requires_grad_(), triplets=(none, none, none))
        loss.backward()
        assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))

    def test_either_labels_or_triplets(self, make_batch):
        embeddings, labels = make_batch()
        with pytest.raises(ValueError, match=r"labels or triplets.* neither"):
            TripletLoss()(embeddings)
        with pytest.raises(ValueError, match=r"labels or triplets.* both"):
            TripletLoss()(embeddings, labels, triplets=(labels, labels, labels))

    @pytest.mark.parametrize(
        ("triplets", "error", "match"),
        [
            ([[0, 1], [0, 1]], ValueError, "triplets .*anchor, positive, negative"),
            ([[0, 1], [0.0, 1.0], [0, 1]], TypeError, "positive .*float32"),
            ([[[0, 1]], [0, 1], [0, 1]], ValueError, r"anchor .*\(1, 2\)"),
            ([[0, 1], [0, 1], [0]], ValueError, r"\[2, 2, 1\]"),
            ([[0, 1], [0, 1], [0, 5]], ValueError, "negative .*5"),
            ([[0, 1], [0, 1], [0, -1]], ValueError, "negative .*-1"),
        ],
        ids=["two tensors", "floats", "two dimensions", "lengths", "index 5", "index -1"],
    )
    def test_invalid(self, triplets, error, match, make_batch):
        embeddings, _ = make_batch(5)
        with pytest.raises(error, match=match):
            TripletLoss()(embeddings, triplets=tuple(map(torch.tensor, triplets)))


class TestCallables:
    @pytest.mark.parametrize("reduction", REDUCTIONS)
    @pytest.mark.parametrize("name", MINERS)
    def test_miner_by_name_and_as_function(self, make_batch, name, reduction):
        embeddings, labels = make_batch()
        losses = [
            TripletLoss(
                mining=mining,
                reduction=reduction,
                generator=torch.Generator().manual_seed(0),
            )(embeddings, labels)
            for mining in (name, MINERS[name])
        ]
        assert losses[0] == losses[1]

    def test_unhashable_miner(self, make_batch):
        @dataclass
        class Miner:
            share: float = 1.0

            def __call__(self, distances, labels, *, margin, generator):
                return hard(distances, labels)

        assert TripletLoss(mining=Miner())(*make_batch()) > 0

    def test_equal_to_names(self, make_batch):
        def miner(distances, labels, *, margin, generator):
            assert not distances.requires_grad
            return hard(distances, labels, margin=margin, generator=generator)

        embeddings, labels = make_batch()
        batch = embeddings.requires_grad_(), labels
        assert torch.equal(
            TripletLoss(mining=miner, metric=sqeuclidean, loss=hinge, reduction="sum")(*batch),
            TripletLoss(mining="hard", reduction="sum")(*batch),
        )

    def test_gradient(self, make_batch):
        def manhattan(embeddings):
            return (embeddings[:, None] - embeddings).abs().sum(dim=2)

        def exponential(d_ap, d_an, margin):
            return torch.exp(d_ap - d_an + margin)

        embeddings, labels = make_batch()
        criterion = TripletLoss(metric=manhattan, loss=exponential)
        assert gradcheck(lambda points: criterion(points, labels), embeddings.requires_grad_())

    @pytest.mark.parametrize("mining", DETERMINISTIC_MINING)
    def test_negative_metric(self, mining, make_batch):
        def negative_similarity(embeddings):
            return -(embeddings @ embeddings.T)

        embeddings, labels = make_batch(dtype=torch.float32)
        criterion = TripletLoss(
            0.2, mining=mining, metric=negative_similarity, reduction="active_mean"
        )
        found = criterion(embeddings, labels)
        distances = negative_similarity(embeddings)
        triplets = triplets_by_loops(mining, distances.tolist(), labels.tolist(), 0.2)
        expected, _ = loss_by_loops(distances, triplets, 0, "hinge", 0.2, "active_mean")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        anchor, positive, negative = torch.tensor(triplets).T
        for name, other in ("d_ap", positive), ("d_an", negative):
            mean = distances[anchor, other].mean()
            torch.testing.assert_close(criterion.statistics[name], mean, atol=1e-5, rtol=1e-5)

    def test_loss_with_parameters(self, make_batch):
        class Weighted(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(()))

            def forward(self, d_ap, d_an, margin):
                return self.weight * hinge(d_ap, d_an, margin)

        embeddings, labels = make_batch()
        criterion = TripletLoss(loss=Weighted())
        criterion(embeddings, labels).backward()
        assert [name for name, _ in criterion.named_parameters()] == ["loss.weight"]
        assert criterion.loss.weight.grad > 0

    def test_invalid_miner_output(self, make_batch):
        def outside(distances, labels, *, margin, generator):
            return Triplets(labels, labels, labels + 100)

        with pytest.raises(ValueError, match=r"negative .*batch of 24"):
            TripletLoss(mining=outside)(*make_batch())

    @pytest.mark.parametrize("mining", ["semi_hard", "all"])
    def test_invalid_loss_output(self, mining, make_batch):
        def mean(d_ap, d_an, margin):
            return hinge(d_ap, d_an, margin).mean()

        with pytest.raises(ValueError, match=r"loss .*shape \(\)"):
            TripletLoss(mining=mining, loss=mean)(*make_batch())


class TestRandomMining:
    def test_generator(self, make_batch):
        embeddings, labels = make_batch()
        criterion = TripletLoss(mining="random", generator=torch.Generator().manual_seed(3))
        state = torch.random.get_rng_state()
        first, second = criterion(embeddings, labels), criterion(embeddings, labels)
        assert first != second
        criterion.generator = torch.Generator().manual_seed(3)
        assert criterion(embeddings, labels) == first
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_global_generator_by_default(self, make_batch):
        embeddings, labels = make_batch()
        losses = []
        with torch.random.fork_rng(devices=[]):
            for _ in range(2):
                torch.manual_seed(0)
                losses.append(TripletLoss(mining="random")(embeddings, labels))
        assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("margin", value) for value in (0, -1.0, math.nan, math.inf, True, "0.2", None, 1j)),
        *((name, value) for name in ("mining", "loss") for value in ("nonsense", None, 3)),
    ],
)
def test_triplet_loss_invalid_parameter(name, value):
    with pytest.raises((TypeError, ValueError), match=f"(?s){name}.*{value}"):
        TripletLoss(**{name: value})


def test_triplet_loss_names_its_options():
    with pytest.raises(ValueError, match="nonsense") as caught:
        TripletLoss(mining="nonsense")
    assert all(repr(name) in str(caught.value) for name in MINING)


def test_triplet_loss_repr():
    text = repr(TripletLoss(0.75, mining="hard", reduction="sum"))
    for part in ("margin=0.75", "mining='hard'", "metric='sqeuclidean'", "reduction='sum'"):
        assert part in text


@pytest.mark.parametrize("mining", ["hard", "all"])
def test_matches_pytorch_metric_learning(mining, make_batch):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    distance = distances.LpDistance(p=2, power=2, normalize_embeddings=False)
    embeddings, labels = make_batch()
    triplets = None
    if mining == "hard":
        triplets = miners.BatchHardMiner(distance=distance)(embeddings, labels)
    ours, theirs = (embeddings.clone().requires_grad_() for _ in range(2))
    found = TripletLoss(0.5, mining=mining, reduction="active_mean")(ours, labels)
    expected = losses.TripletMarginLoss(margin=0.5, distance=distance)(theirs, labels, triplets)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
