import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from sktriplet.distances import DISTANCES, sqeuclidean
from sktriplet.losses import LOSSES, ContrastiveLoss, TripletLoss, _batch_all, hinge, nca_loss
from sktriplet.losses._base import REDUCTIONS
from sktriplet.losses._triplet import MINING_STRATEGIES
from sktriplet.mining import MINERS, Triplets

STATISTICS = {"triplet_fraction", "active_fraction", "d_ap", "d_an", "spread"}


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
    if mining == "semi_hard":
        return semi_hard_triplets(distances, labels, margin)
    return hard_triplets(distances, labels) if mining == "hard" else all_triplets(labels)


def n_possible_by_loops(mining, labels):
    """Return how many triplets a strategy could have found."""
    rows = range(len(labels))
    pairs = [(a, p) for a in rows for p in rows if a != p and labels[a] == labels[p]]
    if mining == "all":
        return len(all_triplets(labels))
    return len({a for a, _ in pairs}) if mining == "hard" else len(pairs)


def loss_by_loops(distances, triplets, n_possible, loss, margin, reduction):
    """Return the reduced loss and the fraction of active triplets; distances a tensor."""
    losses = []
    for difference in [distances[a, p] - distances[a, n] for a, p, n in triplets]:
        if loss == "soft_margin":
            losses.append(torch.log1p(torch.exp(difference)))
        elif difference + margin > 0:
            losses.append(difference + margin)
    total = sum(losses, distances.sum() * 0)
    divisor = {"sum": 1, "mean": n_possible, "active_mean": len(losses)}[reduction]
    return total / max(divisor, 1), len(losses) / len(triplets) if triplets else math.nan


# Whole coordinates make ties and duplicate rows common, and distances exact in float64.
@st.composite
def batches(draw):
    size = draw(st.integers(0, 7))
    labels = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    row = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
    rows = draw(st.lists(row, min_size=size, max_size=size))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    embeddings = torch.tensor(rows, dtype=dtype).reshape(size, 2)
    return embeddings, torch.tensor(labels, dtype=torch.int64)


def exact(embeddings):
    """Squared distances without rounding where the coordinates are whole numbers."""
    return (embeddings[:, None] - embeddings).square().sum(dim=2)


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "all"])
@given(
    batch=batches(),
    margin=st.sampled_from([0.5, 1.0, 4.0, 50.0]),
    loss=st.sampled_from(list(LOSSES)),
    reduction=st.sampled_from(REDUCTIONS),
)
@settings(deadline=None, max_examples=60)
def test_agrees_with_a_triple_loop(mining, batch, margin, loss, reduction):
    embeddings, labels = batch
    ours, theirs = (embeddings.clone().requires_grad_() for _ in range(2))
    criterion = TripletLoss(margin, mining=mining, metric=exact, loss=loss, reduction=reduction)
    found = criterion(ours, labels)
    distances = exact(theirs)
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


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(batch=batches(), pos_margin=st.sampled_from([0.0, 0.5]), neg_margin=st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=50)
def test_contrastive_agrees_with_a_double_loop(reduction, batch, pos_margin, neg_margin):
    embeddings, labels = batch
    criterion = ContrastiveLoss(pos_margin, neg_margin, metric=exact, reduction=reduction)
    found = criterion(embeddings, labels)
    distances = exact(embeddings).tolist()
    costs = {True: [], False: []}
    lengths = {True: [], False: []}
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            alike = bool(labels[i] == labels[j])
            d = distances[i][j]
            costs[alike].append(max(d - pos_margin, 0) if alike else max(neg_margin - d, 0))
            lengths[alike].append(d)
    expected = 0.0
    for losses in costs.values():
        active = [loss for loss in losses if loss > 0]
        n = {"sum": 1, "mean": len(losses), "active_mean": len(active)}[reduction]
        expected += sum(losses) / max(n, 1)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    statistics = {name: value.item() for name, value in criterion.statistics.items()}
    for name, alike in ("d_ap", True), ("d_an", False):
        mean = sum(lengths[alike]) / len(lengths[alike]) if lengths[alike] else math.nan
        assert statistics[name] == pytest.approx(mean, nan_ok=True)
    both = costs[True] + costs[False]
    fraction = sum(loss > 0 for loss in both) / len(both) if both else math.nan
    assert statistics["active_fraction"] == pytest.approx(fraction, nan_ok=True)


def clouds(size=24, n_classes=3, width=4, *, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(size, width, generator=generator, dtype=dtype)
    return embeddings, torch.randint(n_classes, (size,), generator=generator)


def every_criterion(**parameters):
    return [
        *(
            TripletLoss(mining=mining, loss=loss, generator=torch.Generator(), **parameters)
            for mining in MINING_STRATEGIES
            for loss in LOSSES
        ),
        TripletLoss(nca_weight=1.0, generator=torch.Generator(), **parameters),
        ContrastiveLoss(**parameters),
    ]


def name_of(criterion):
    return repr(criterion).replace("'", "")


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("mining", MINING_STRATEGIES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient(metric, mining, loss):
    embeddings, labels = clouds(10, 3)

    def seeded(points):
        generator = torch.Generator().manual_seed(0)
        criterion = TripletLoss(0.5, mining=mining, metric=metric, loss=loss, generator=generator)
        return criterion(points, labels)

    assert gradcheck(seeded, embeddings.requires_grad_())


@pytest.mark.parametrize("mining", MINING_STRATEGIES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_soft_neighbour_term_is_added(mining, reduction):
    """Its temperature is in margins, so that scaled embeddings with a scaled margin are alike."""
    embeddings, labels = clouds()
    settings = {"mining": mining, "reduction": reduction}

    def loss_of(nca_weight, margin=0.5, scale=1.0):
        generator = torch.Generator().manual_seed(0)
        criterion = TripletLoss(margin, nca_weight=nca_weight, generator=generator, **settings)
        return criterion(scale * embeddings, labels)

    term = nca_loss(sqeuclidean(embeddings), labels, temperature=0.2)
    assert loss_of(3.0).item() == pytest.approx((loss_of(0.0) + 3 * term).item())
    scaled = loss_of(3.0, margin=2.0, scale=2.0) - loss_of(0.0, margin=2.0, scale=2.0)
    assert scaled.item() == pytest.approx(3 * term.item())


def test_given_triplets_have_no_soft_neighbours():
    embeddings, _ = clouds()
    triplets = Triplets(*torch.tensor([[0, 1], [2, 3], [4, 5]]))
    losses = [TripletLoss(nca_weight=w)(embeddings, triplets=triplets) for w in (0, 1)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("metric", DISTANCES)
def test_gradient_of_contrastive_loss(metric):
    embeddings, labels = clouds(10, 3)
    criterion = ContrastiveLoss(0.1, 1.5, metric=metric)
    assert gradcheck(lambda points: criterion(points, labels), embeddings.requires_grad_())


@pytest.mark.parametrize("mining", ["semi_hard", "all"])
def test_second_derivatives(mining):
    embeddings, labels = clouds(8, 3)
    criterion = TripletLoss(0.5, mining=mining)
    assert gradgradcheck(lambda points: criterion(points, labels), embeddings.requires_grad_())


def test_second_derivatives_that_are_not_computed_raise():
    embeddings, labels = clouds(8, 3)
    loss = TripletLoss(mining="all", loss="soft_margin")(embeddings.requires_grad_(), labels)
    with pytest.raises(
        RuntimeError, match=r"^With mining='all' only the hinge can be differentiated twice\.$"
    ):
        torch.autograd.grad(loss, embeddings, create_graph=True)


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("collapsed", [False, True], ids=["duplicates", "collapsed"])
def test_gradients_are_finite_with_duplicate_rows(metric, collapsed):
    embeddings, labels = clouds(dtype=torch.float32)
    embeddings[5:10] = embeddings[:5]
    embeddings[10:12] = 0
    if collapsed:
        embeddings[:] = embeddings[0].clone()
    for criterion in every_criterion(metric=metric):
        leaf = embeddings.clone().requires_grad_()
        loss = criterion(leaf, labels)
        loss.backward()
        assert loss.isfinite()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("criterion", every_criterion(), ids=name_of)
@pytest.mark.parametrize(
    "labels", [[], [1], [1, 1, 1], [0, 1, 2]], ids=["empty", "one row", "one class", "singletons"]
)
def test_a_batch_without_triplets_gives_a_connected_zero(criterion, labels):
    leaf = torch.ones(len(labels), 2).cumsum(0).requires_grad_()
    loss = criterion(leaf, torch.tensor(labels, dtype=torch.int64))
    assert loss.shape == ()
    if not isinstance(criterion, ContrastiveLoss):
        assert loss.item() == 0
    loss.backward()
    assert leaf.grad.isfinite().all()
    assert set(criterion.statistics) == STATISTICS


@pytest.mark.parametrize("criterion", every_criterion(), ids=name_of)
def test_statistics_are_detached_scalars(criterion):
    embeddings, labels = clouds()
    assert criterion.statistics == {}
    criterion(embeddings.requires_grad_(), labels)
    assert set(criterion.statistics) == STATISTICS
    for value in criterion.statistics.values():
        assert value.shape == ()
        assert not value.requires_grad
    spread = (embeddings - embeddings.mean(0)).square().sum(1).mean().sqrt()
    torch.testing.assert_close(criterion.statistics["spread"], spread.detach())


@pytest.mark.parametrize("loss", ["hinge", lambda d_ap, d_an, margin: hinge(d_ap, d_an, margin)])
@pytest.mark.parametrize(
    ("mining", "total", "triplets", "active", "d_ap", "d_an", "found"),
    [
        ("semi_hard", 0, 0, 0, math.nan, math.nan, 0),
        ("hard", 34, 4, 1, 18.5, 20.25, 1),
        ("all", 63, 8, 2, 18.5, 39.5, 1),
    ],
)
def test_four_points_on_a_line(loss, mining, total, triplets, active, d_ap, d_an, found):
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


@pytest.mark.parametrize("criterion", every_criterion(), ids=name_of)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_what_is_not_finite_does_not_crash(criterion, value):
    for dtype in (torch.float32, torch.float64):
        embeddings, labels = clouds(dtype=dtype)
        embeddings[3] = value
        assert criterion(embeddings.requires_grad_(), labels).shape == ()


@pytest.mark.parametrize("criterion", every_criterion(), ids=name_of)
def test_half_precision_and_autocast_are_computed_in_float32(criterion):
    def loss_of(points):
        if isinstance(criterion, TripletLoss):
            criterion.generator.manual_seed(0)
        return criterion(points, labels)

    embeddings, labels = clouds(dtype=torch.bfloat16)
    low = embeddings.clone().requires_grad_()
    loss, expected = loss_of(low), loss_of(embeddings.float())
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    loss.backward()
    assert low.grad.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss_of(embeddings.float()), expected)


def test_float64_stays_float64():
    embeddings, labels = clouds()
    for criterion in every_criterion():
        assert criterion(embeddings, labels).dtype == torch.float64


@pytest.mark.parametrize("criterion", every_criterion(), ids=name_of)
def test_no_gradient_is_computed_where_none_is_asked_for(criterion):
    embeddings, labels = clouds()
    with torch.inference_mode():
        assert not criterion(embeddings, labels).requires_grad
    assert not criterion(embeddings, labels).requires_grad
    with torch.no_grad():
        assert not criterion(embeddings.requires_grad_(), labels).requires_grad


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "all"])
@pytest.mark.parametrize("loss", LOSSES)
def test_permuting_the_batch_permutes_the_gradient(mining, loss):
    embeddings, labels = clouds()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    criterion = TripletLoss(mining=mining, loss=loss)
    one, other = embeddings.clone().requires_grad_(), embeddings[order].requires_grad_()
    first, second = criterion(one, labels), criterion(other, labels[order])
    torch.testing.assert_close(first, second)
    first.backward()
    second.backward()
    torch.testing.assert_close(one.grad[order], other.grad)


def test_scaling_and_translation():
    embeddings, labels = clouds()
    for metric, power in ("sqeuclidean", 2), ("euclidean", 1), ("cosine", 0):
        for mining in ("semi_hard", "hard", "all"):
            once = TripletLoss(0.5, mining=mining, metric=metric)(embeddings, labels)
            factor = 2.0**power
            scaled = TripletLoss(0.5 * factor, mining=mining, metric=metric)(2 * embeddings, labels)
            torch.testing.assert_close(scaled, factor * once)
            moved = TripletLoss(0.5, mining=mining, metric=metric)(embeddings + 3, labels)
            assert torch.isclose(moved, once).item() == (metric != "cosine")


def test_the_names_of_labels_do_not_matter():
    embeddings, labels = clouds()
    expected = TripletLoss()(embeddings, labels)
    renamed = torch.tensor([2**40, -7, 0])[labels]
    assert torch.equal(TripletLoss()(embeddings, renamed), expected)
    assert torch.equal(TripletLoss()(embeddings, labels.repeat_interleave(2)[::2]), expected)
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.uint16):
        assert torch.equal(TripletLoss()(embeddings, labels.to(dtype)), expected)


# Given triplets.


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_given_triplets_are_taken_as_they_are(dtype):
    embeddings, _ = clouds(6)
    rows = torch.tensor([[0, 0, 1, 2], [1, 1, 2, 2], [3, 3, 5, 4]], dtype=dtype)
    criterion = TripletLoss(0.5, reduction="sum")
    loss = criterion(embeddings, triplets=tuple(rows))
    distances = sqeuclidean(embeddings)
    expected = sum(
        hinge(distances[a, p], distances[a, n], 0.5) for a, p, n in rows.T.long().tolist()
    )
    torch.testing.assert_close(loss, expected)
    assert criterion.statistics["triplet_fraction"] == 1
    assert not criterion.statistics["d_ap"].isnan()


def test_no_given_triplets():
    embeddings, _ = clouds(6)
    none = torch.empty(0, dtype=torch.int64)
    loss = TripletLoss()(embeddings.requires_grad_(), triplets=(none, none, none))
    loss.backward()
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


# Callables.


def furthest_first(distances, labels, *, margin, generator):
    assert not distances.requires_grad
    return MINERS["hard"](distances, labels, margin=margin, generator=generator)


def exponential(d_ap, d_an, margin):
    return torch.exp(d_ap - d_an + margin)


def manhattan(embeddings):
    return (embeddings[:, None] - embeddings).abs().sum(dim=2)


def negative_similarity(embeddings):
    return -(embeddings @ embeddings.T)


def test_callables_are_called():
    embeddings, labels = clouds()
    embeddings.requires_grad_()
    expected = TripletLoss(mining="hard", reduction="sum")(embeddings, labels)
    found = TripletLoss(mining=furthest_first, reduction="sum")(embeddings, labels)
    assert torch.equal(found, expected)
    assert torch.equal(
        TripletLoss(metric=sqeuclidean, loss=hinge)(embeddings, labels),
        TripletLoss()(embeddings, labels),
    )
    assert gradcheck(
        lambda points: TripletLoss(metric=manhattan, loss=exponential)(points, labels),
        embeddings,
    )


@pytest.mark.parametrize("mining", ["semi_hard", "hard", "all"])
def test_a_metric_may_be_negative(mining):
    embeddings, labels = clouds(dtype=torch.float32)
    criterion = TripletLoss(mining=mining, metric=negative_similarity)
    found = criterion(embeddings, labels)
    distances = negative_similarity(embeddings)
    triplets = triplets_by_loops(mining, distances.tolist(), labels.tolist(), 0.2)
    expected, _ = loss_by_loops(distances, triplets, 0, "hinge", 0.2, "active_mean")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    anchor, positive, negative = torch.tensor(triplets).T
    for name, other in ("d_ap", positive), ("d_an", negative):
        mean = distances[anchor, other].mean()
        torch.testing.assert_close(criterion.statistics[name], mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mining", ["semi_hard", "all"])
def test_any_loss_of_a_triplet(mining):
    embeddings, labels = clouds(10)
    criterion = TripletLoss(mining=mining, loss=exponential, reduction="sum")
    assert gradcheck(lambda points: criterion(points, labels), embeddings.requires_grad_())
    constant = TripletLoss(mining="all", loss=lambda d_ap, d_an, margin: torch.ones_like(d_ap))
    constant(embeddings, labels).backward()


def test_batch_all_is_the_same_in_chunks_of_any_size(monkeypatch):
    embeddings, labels = clouds()
    values, gradients = [], []
    for chunk in (1, 100, 1 << 20):
        monkeypatch.setattr(_batch_all, "_CHUNK", chunk)
        leaf = embeddings.clone().requires_grad_()
        loss = TripletLoss(mining="all", loss="soft_margin", reduction="mean")(leaf, labels)
        (gradient,) = torch.autograd.grad(3 * loss, leaf)
        values.append(loss)
        gradients.append(gradient)
    torch.testing.assert_close(values[1:], values[:1] * 2)
    torch.testing.assert_close(gradients[1:], gradients[:1] * 2)


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, d_ap, d_an, margin):
        return self.weight * hinge(d_ap, d_an, margin)


def test_a_loss_may_have_parameters_of_its_own():
    embeddings, labels = clouds()
    criterion = TripletLoss(loss=Weighted())
    criterion(embeddings, labels).backward()
    assert [name for name, _ in criterion.named_parameters()] == ["loss.weight"]
    assert criterion.loss.weight.grad > 0


# Randomness.


def test_random_mining_draws_from_its_generator():
    embeddings, labels = clouds()
    criterion = TripletLoss(mining="random", generator=torch.Generator().manual_seed(3))
    state = torch.random.get_rng_state()
    first, second = criterion(embeddings, labels), criterion(embeddings, labels)
    assert first != second
    criterion.generator = torch.Generator().manual_seed(3)
    assert criterion(embeddings, labels) == first
    assert torch.equal(torch.random.get_rng_state(), state)


def test_random_mining_draws_from_the_global_generator_by_default():
    embeddings, labels = clouds()
    values = []
    with torch.random.fork_rng(devices=[]):
        for _ in range(2):
            torch.manual_seed(0)
            values.append(TripletLoss(mining="random")(embeddings, labels))
    assert values[0] == values[1]


# Being a module.


@pytest.mark.parametrize("criterion", every_criterion(reduction="sum"), ids=name_of)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(criterion, copied):
    embeddings, labels = clouds()
    fresh = copied(criterion)
    assert torch.equal(fresh(embeddings, labels), criterion(embeddings, labels))
    used = copied(criterion)
    assert repr(used) == repr(criterion)
    assert set(used.statistics) == STATISTICS


def test_repr_says_all():
    criterion = TripletLoss(0.5, mining="hard")
    assert repr(criterion) == (
        "TripletLoss(margin=0.5, mining='hard', metric='sqeuclidean', loss='hinge', "
        "reduction='active_mean', nca_weight=0.0)"
    )
    assert repr(ContrastiveLoss()) == (
        "ContrastiveLoss(pos_margin=0.0, neg_margin=1.0, metric='euclidean', "
        "reduction='active_mean')"
    )


@pytest.mark.parametrize("make", [TripletLoss, ContrastiveLoss])
def test_nothing_is_seen_before_the_first_batch(make):
    assert make().statistics == {}


def test_strategies():
    assert MINING_STRATEGIES == ("semi_hard", "hard", "random", "all")


# What is refused.


@pytest.mark.parametrize("margin", [0, -1.0, math.nan, math.inf])
def test_bad_margins(margin):
    with pytest.raises(ValueError, match=rf"margin must be a finite number above 0, got {margin}"):
        TripletLoss(margin)
    with pytest.raises(ValueError, match="neg_margin must be"):
        ContrastiveLoss(neg_margin=margin)


@pytest.mark.parametrize("margin", [True, "0.2", None, 1j, torch.ones(2)])
def test_margins_that_are_no_numbers(margin):
    with pytest.raises(TypeError, match="margin must be a finite number above 0, got"):
        TripletLoss(margin)
    with pytest.raises(TypeError, match="pos_margin must be a finite number, at least 0, got"):
        ContrastiveLoss(pos_margin=margin)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf])
def test_bad_weights(weight):
    with pytest.raises(ValueError, match=rf"nca_weight must be .*, at least 0, got {weight}"):
        TripletLoss(nca_weight=weight)


def test_contrastive_margins():
    assert ContrastiveLoss(0, 2).pos_margin == 0
    with pytest.raises(ValueError, match="pos_margin must be a finite number, at least 0, got -1"):
        ContrastiveLoss(-1)


@pytest.mark.parametrize(
    ("parameter", "allowed"),
    [
        ("mining", MINING_STRATEGIES),
        ("metric", DISTANCES),
        ("loss", LOSSES),
        ("reduction", REDUCTIONS),
    ],
)
def test_unknown_names(parameter, allowed):
    with pytest.raises(ValueError, match=f"{parameter} must be one of .*, got 'nonsense'") as error:
        TripletLoss(**{parameter: "nonsense"})
    assert all(repr(name) in str(error.value) for name in allowed)
    assert (" or a callable, got" in str(error.value)) == (parameter != "reduction")
    for wrong in (None, 3, ["hinge"]):
        with pytest.raises(TypeError, match=f"{parameter} must be one of"):
            TripletLoss(**{parameter: wrong})


@pytest.mark.parametrize("parameter", ["metric", "reduction"])
def test_unknown_names_in_contrastive_loss(parameter):
    with pytest.raises(ValueError, match=f"^{parameter} must be one of .*, got 'nonsense'"):
        ContrastiveLoss(**{parameter: "nonsense"})


@pytest.mark.parametrize("make", [TripletLoss, ContrastiveLoss])
def test_a_reduction_is_no_callable(make):
    with pytest.raises(
        TypeError, match=r"^reduction must be one of 'active_mean', 'mean', 'sum', "
    ):
        make(reduction=torch.mean)


@pytest.mark.parametrize("criterion", [TripletLoss(), ContrastiveLoss()], ids=["triplet", "pairs"])
def test_batches_that_are_refused(criterion):
    embeddings, labels = clouds()
    with pytest.raises(ValueError, match=r"embeddings must have shape \(B, D\), got \(24,\)"):
        criterion(embeddings[:, 0], labels)
    with pytest.raises(TypeError, match=r"floating point tensor, got torch\.int"):
        criterion(embeddings.int(), labels)
    with pytest.raises(TypeError, match="embeddings must be a floating point tensor, got ndarray"):
        criterion(embeddings.numpy(), labels)
    with pytest.raises(TypeError, match=r"labels must be an integer tensor, got torch\.float32"):
        criterion(embeddings, labels.float())
    with pytest.raises(TypeError, match="labels must be an integer tensor, got list"):
        criterion(embeddings, labels.tolist())
    with pytest.raises(ValueError, match=r"labels must have one dimension, got shape \(24, 1\)"):
        criterion(embeddings, labels[:, None])
    with pytest.raises(ValueError, match="of one length, got 23 and 24"):
        criterion(embeddings, labels[1:])


def test_either_labels_or_triplets():
    embeddings, labels = clouds()
    rows = (labels, labels, labels)
    with pytest.raises(ValueError, match="either labels or triplets=, got neither"):
        TripletLoss()(embeddings)
    with pytest.raises(ValueError, match="either labels or triplets=, got both"):
        TripletLoss()(embeddings, labels, triplets=rows)


def test_triplets_that_are_refused():
    embeddings, _ = clouds(5)
    rows = torch.tensor([0, 1])
    criterion = TripletLoss()
    with pytest.raises(ValueError, match=r"triplets must be three tensors \(anchor, positive, neg"):
        criterion(embeddings, triplets=(rows, rows))
    with pytest.raises(TypeError, match=r"positive must be an integer tensor, got torch\.float32"):
        criterion(embeddings, triplets=(rows, rows.float(), rows))
    with pytest.raises(ValueError, match=r"anchor must have one dimension, got shape \(1, 2\)"):
        criterion(embeddings, triplets=(rows[None], rows, rows))
    with pytest.raises(ValueError, match=r"of one length, got \[2, 2, 1\]"):
        criterion(embeddings, triplets=(rows, rows, rows[:1]))
    for bad in (5, -1):
        with pytest.raises(ValueError, match="negative must hold rows of a batch of 5, got"):
            criterion(embeddings, triplets=(rows, rows, torch.tensor([0, bad])))


def test_callables_that_keep_no_contract_are_told():
    embeddings, labels = clouds(5)

    def outside(distances, labels, *, margin, generator):
        return Triplets(labels, labels, labels + 100)

    with pytest.raises(ValueError, match="negative must hold rows of a batch of 5"):
        TripletLoss(mining=outside)(embeddings, labels)
    with pytest.raises(ValueError, match=r"metric must return .* \(5, 5\), got shape \(5, 4\)"):
        TripletLoss(metric=lambda points: points)(embeddings, labels)
    for mining in ("semi_hard", "all"):
        with pytest.raises(ValueError, match=r"loss must return .*, got shape \(\)"):
            TripletLoss(
                mining=mining, loss=lambda d_ap, d_an, margin: hinge(d_ap, d_an, margin).mean()
            )(*clouds())


# pytorch-metric-learning, where it defines the same.


def theirs_of(module, name, **parameters):
    part = pytest.importorskip(f"pytorch_metric_learning.{module}")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    power = parameters.pop("power", 2)
    distance = distances.LpDistance(p=2, power=power, normalize_embeddings=False)
    return getattr(part, name)(distance=distance, **parameters)


@pytest.mark.parametrize("mining", ["hard", "all"])
def test_triplet_loss_of_pytorch_metric_learning(mining):
    embeddings, labels = clouds()
    theirs = theirs_of("losses", "TripletMarginLoss", margin=0.5)
    indices = None
    if mining == "hard":
        indices = theirs_of("miners", "BatchHardMiner")(embeddings, labels)
    ours = TripletLoss(0.5, mining=mining)
    one, other = (embeddings.clone().requires_grad_() for _ in range(2))
    found, expected = ours(one, labels), theirs(other, labels, indices)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_contrastive_loss_of_pytorch_metric_learning():
    embeddings, labels = clouds()
    theirs = theirs_of("losses", "ContrastiveLoss", pos_margin=0.5, neg_margin=2.0, power=1)
    ours = ContrastiveLoss(0.5, 2.0)
    torch.testing.assert_close(ours(embeddings, labels), theirs(embeddings, labels))
