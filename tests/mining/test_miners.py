import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktriplet.distances import DISTANCES, sqeuclidean
from sktriplet.mining import Triplets, hard, random, semi_hard

MINERS = [semi_hard, hard, random]

# The definitions, as loops. They take nested lists and return sets of triplets.


def positives_of(anchor, labels):
    return [j for j, label in enumerate(labels) if label == labels[anchor] and j != anchor]


def negatives_of(anchor, labels):
    return [j for j, label in enumerate(labels) if label != labels[anchor]]


def semi_hard_by_loops(distances, labels, margin):
    triplets = set()
    for a, row in enumerate(distances):
        for p in positives_of(a, labels):
            nearest = None
            for n in negatives_of(a, labels):
                is_semi_hard = row[p] < row[n] < row[p] + margin
                if is_semi_hard and (nearest is None or row[n] < row[nearest]):
                    nearest = n
            if nearest is not None:
                triplets.add((a, p, nearest))
    return triplets


def hard_by_loops(distances, labels):
    triplets = set()
    for a, row in enumerate(distances):
        farthest = nearest = None
        for p in positives_of(a, labels):
            if farthest is None or row[p] > row[farthest]:
                farthest = p
        for n in negatives_of(a, labels):
            if nearest is None or row[n] < row[nearest]:
                nearest = n
        if farthest is not None and nearest is not None:
            triplets.add((a, farthest, nearest))
    return triplets


# Multiples of 0.5 make ties common, and all sums and comparisons exact.
whole = st.integers(0, 6)
signed = st.sampled_from([-3.5, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0])
margins = st.sampled_from([0.5, 1.0, 2.0, 3.5, 100.0])


@st.composite
def batches(draw, values=whole):
    size = draw(st.integers(0, 12))
    n_classes = draw(st.integers(1, 5))
    labels = draw(st.lists(st.integers(-1, n_classes - 2), min_size=size, max_size=size))
    row = st.lists(values, min_size=size, max_size=size)
    rows = draw(st.lists(row, min_size=size, max_size=size))
    distances = torch.tensor(rows, dtype=torch.float32).reshape(size, size)
    return distances, torch.tensor(labels, dtype=torch.int64)


@given(batch=batches() | batches(signed), margin=margins)
@settings(deadline=None, max_examples=250)
def test_semi_hard_matches_definition(as_set, batch, margin):
    distances, labels = batch
    expected = semi_hard_by_loops(distances.tolist(), labels.tolist(), margin)
    assert as_set(semi_hard(distances, labels, margin=margin)) == expected
    assert as_set(semi_hard(distances.double(), labels, margin=margin)) == expected


@given(batch=batches() | batches(signed))
@settings(deadline=None, max_examples=200)
def test_hard_matches_definition(as_set, batch):
    distances, labels = batch
    expected = hard_by_loops(distances.tolist(), labels.tolist())
    assert as_set(hard(distances, labels)) == expected
    assert as_set(hard(distances.double(), labels)) == expected


@given(batch=batches())
@settings(deadline=None, max_examples=100)
def test_random_returns_one_negative_per_pair(as_set, batch):
    distances, labels = batch
    listed = labels.tolist()
    pairs = {
        (a, p)
        for a in range(len(listed))
        for p in positives_of(a, listed)
        if negatives_of(a, listed)
    }
    triplets = as_set(random(distances, labels))
    assert {(a, p) for a, p, _ in triplets} == pairs
    assert all(n in negatives_of(a, listed) for a, _, n in triplets)


@pytest.mark.parametrize("miner", [semi_hard, hard])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", DISTANCES)
def test_miner_is_permutation_equivariant(miner, metric, dtype, make_batch, as_set):
    points, labels = make_batch(60, 4, dtype)
    distances = DISTANCES[metric](points)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    before = as_set(miner(distances, labels, margin=0.2))
    permuted = miner(distances[order][:, order], labels[order], margin=0.2)
    assert len(before) > 20
    assert {tuple(order[list(triplet)].tolist()) for triplet in as_set(permuted)} == before


def test_semi_hard_scales_with_margin(make_batch, as_set):
    points, labels = make_batch(60, 4)
    once = as_set(semi_hard(sqeuclidean(points), labels, margin=0.25))
    assert as_set(semi_hard(sqeuclidean(2 * points), labels, margin=1.0)) == once


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_go_to_lowest_index(dtype, as_set):
    distances = torch.tensor([[0.0, 1.0, 1.5, 1.5, 1.25, 1.25]], dtype=dtype).repeat(6, 1)
    assert (0, 1, 4) in as_set(semi_hard(distances, torch.tensor([0, 0, 1, 1, 1, 1]), margin=1))
    assert (0, 2, 4) in as_set(hard(distances, torch.tensor([0, 0, 0, 0, 1, 1])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_semi_hard_interval_is_open(dtype, as_set):
    """Negatives at the distance of the positive, or exactly a margin farther, are not semi-hard."""
    distances = torch.tensor([[0.0, 1.0, 1.0, 1.5]], dtype=dtype).repeat(4, 1)
    labels = torch.tensor([0, 0, 1, 1])
    assert 0 not in semi_hard(distances, labels, margin=0.5).anchor
    assert (0, 1, 3) in as_set(semi_hard(distances, labels, margin=0.75))


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "labels",
    [[], [3], [3, 3, 3], [1, 2, 3]],
    ids=["empty", "one sample", "one class", "singletons"],
)
def test_batch_without_triplets(miner, labels, dtype, as_set):
    labels = torch.tensor(labels, dtype=torch.int64)
    distances = torch.rand(len(labels), len(labels), dtype=dtype)
    triplets = miner(distances, labels, margin=0.2)
    assert isinstance(triplets, Triplets)
    assert as_set(triplets) == set()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_distance_excludes_pair(dtype, as_set):
    distances = torch.tensor([[0.0, 1.0, math.inf, 1.5, 9.0]], dtype=dtype).repeat(5, 1)
    labels = torch.tensor([0, 0, 0, 1, 1])
    triplets = as_set(semi_hard(distances, labels, margin=1))
    assert (0, 1, 3) in triplets
    assert not any(2 in triplet[1:] for triplet in triplets)
    far = torch.tensor([[0.0, 1.0, math.inf, 1.5]], dtype=dtype).repeat(4, 1)
    assert (0, 1, 3) in as_set(hard(far, torch.tensor([0, 0, 1, 1])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_hard_ignores_non_finite_negatives(dtype, value, as_set):
    distances = torch.tensor([[value, 0.0, 1.0]], dtype=dtype).repeat(3, 1)
    assert as_set(hard(distances, torch.tensor([1, 0, 0]))) == set()


@pytest.mark.parametrize("miner", [semi_hard, hard])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, -math.inf, -5.0])
def test_miner_ignores_diagonal(miner, dtype, value, make_batch, as_set):
    points, labels = make_batch(20, 3, dtype)
    distances = sqeuclidean(points)
    expected = as_set(miner(distances, labels, margin=0.2))
    distances.fill_diagonal_(value)
    assert as_set(miner(distances, labels, margin=0.2)) == expected


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 1.0])
def test_non_finite_distances_keep_triplets_valid(miner, value, dtype, fraction, as_set):
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(30, 30, generator=generator, dtype=dtype)
    distances[torch.rand(30, 30, generator=generator) < fraction] = value
    labels = torch.randint(3, (30,), generator=generator)
    for a, p, n in as_set(miner(distances, labels, margin=0.2)):
        assert a != p
        assert labels[a] == labels[p]
        assert labels[a] != labels[n]


def test_random_is_reproducible():
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    distances = torch.zeros(8, 8)
    state = torch.random.get_rng_state()
    first, second = (
        random(distances, labels, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    other = random(distances, labels, generator=torch.Generator().manual_seed(6))
    assert torch.equal(first.negative, second.negative)
    assert not torch.equal(first.negative, other.negative)
    assert torch.equal(state, torch.random.get_rng_state())


def test_random_is_uniform():
    labels = torch.tensor([1, 0, 1, 2, 1, 0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat(
        [random(torch.zeros(6, 6), labels, generator=generator).negative for _ in range(2000)]
    ).reshape(2000, -1)
    anchors = random(torch.zeros(6, 6), labels).anchor
    from_class_1 = drawn[:, anchors == 0]
    counts = torch.bincount(from_class_1.flatten(), minlength=6)
    assert counts[[0, 2, 4]].sum() == 0
    # 4000 draws from three negatives; five standard deviations are 150
    assert (counts[[1, 3, 5]] - 4000 / 3).abs().max() < 150


def test_random_is_uniform_in_large_batches():
    """Small random integers modulo the number of negatives would favor the first ones."""
    labels = torch.cat([torch.zeros(300, dtype=torch.int64), torch.ones(100, dtype=torch.int64)])
    generator = torch.Generator().manual_seed(0)
    triplets = random(torch.zeros(400, 400), labels, generator=generator)
    counts = torch.bincount(triplets.negative[triplets.anchor >= 300], minlength=300)[:300]
    # 9900 draws from 300 negatives: a mean of 33, with a standard deviation of 6
    assert counts.min() > 5
    assert counts.max() < 65


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [20, 0])
def test_miner_returns_int64(miner, dtype, size, make_batch):
    points, labels = make_batch(size, 3, dtype)
    triplets = miner(sqeuclidean(points), labels.to(torch.int32), margin=0.2)
    assert {indices.dtype for indices in triplets} == {torch.int64}


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_miner_accepts_integer_dtypes(miner, dtype, make_batch, as_set):
    points, labels = make_batch(20, 3)
    distances = sqeuclidean(points)
    found, expected = (
        miner(distances, given, margin=0.2, generator=torch.Generator().manual_seed(0))
        for given in (labels.to(dtype), labels)
    )
    assert as_set(found) == as_set(expected)


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_miner_accepts_strided_input(miner, dtype, make_batch):
    """The input is not modified."""
    points, labels = make_batch(20, 3, dtype)
    labels = labels.repeat_interleave(2)[::2]
    distances = sqeuclidean(points)
    wide = torch.zeros(40, 60, dtype=dtype)
    wide[::2, ::3] = distances
    kept = distances.clone()

    def mined(distances):
        return miner(distances, labels, margin=0.2, generator=torch.Generator().manual_seed(0))

    expected = mined(distances)
    assert torch.equal(distances, kept)
    for found in (mined(wide[::2, ::3]), mined(distances.T.contiguous().T)):
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


class TestPytorchMetricLearning:
    @pytest.fixture
    def distance(self):
        distances = pytest.importorskip("pytorch_metric_learning.distances")
        return distances.LpDistance(p=2, power=2, normalize_embeddings=False)

    def test_semi_hard(self, distance, make_batch, as_set):
        """It returns all semi-hard triplets; the nearest negative of each pair is ours."""
        miners = pytest.importorskip("pytorch_metric_learning.miners")
        miner = miners.TripletMarginMiner(0.2, type_of_triplets="semihard", distance=distance)
        points, labels = make_batch(60, 4, torch.float64)
        distances = sqeuclidean(points)
        nearest = {}
        for a, p, n in zip(*(t.tolist() for t in miner(points, labels)), strict=True):
            if (a, p) not in nearest or distances[a, n] < distances[a, nearest[a, p]]:
                nearest[a, p] = n
        ours = as_set(semi_hard(distances, labels, margin=0.2))
        assert ours == {(a, p, n) for (a, p), n in nearest.items()}

    def test_hard(self, distance, make_batch, as_set):
        miners = pytest.importorskip("pytorch_metric_learning.miners")
        points, labels = make_batch(60, 4, torch.float64)
        theirs = miners.BatchHardMiner(distance=distance)(points, labels)
        assert as_set(hard(sqeuclidean(points), labels)) == as_set(theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_semi_hard_in_a_stack_of_batches(dtype, make_batch, as_set):
    """Sample i of batch g has index g * B + i."""
    batches = [make_batch(12, 3, seed=seed) for seed in range(3)]
    distances = torch.stack([sqeuclidean(points) for points, _ in batches]).to(dtype)
    labels = torch.stack([labels for _, labels in batches])
    expected = set()
    for number, batch in enumerate(zip(distances, labels, strict=True)):
        expected |= {
            tuple(i + 12 * number for i in triplet)
            for triplet in as_set(semi_hard(*batch, margin=1.0))
        }
    assert expected
    assert as_set(semi_hard(distances, labels, margin=1.0)) == expected
