import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sktriplet.distances import DISTANCES, sqeuclidean
from sktriplet.losses import _batch_all
from sktriplet.losses._batch_all import batch_all_counts
from sktriplet.mining import MINERS, Triplets, _miners, _sorted_keys, hard, random, semi_hard

# Definitions, as loops. They take nested lists and return sets of triplets.


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
                semi_hard_one = row[p] < row[n] < row[p] + margin
                if semi_hard_one and (nearest is None or row[n] < row[nearest]):
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


def counts_by_loops(distances, labels, margin):
    counts = [[0] * len(labels) for _ in labels]
    for a, row in enumerate(distances):
        for p in positives_of(a, labels):
            for n in negatives_of(a, labels):
                if row[n] < row[p] + margin:
                    counts[a][p] += 1
                    counts[a][n] -= 1
    return counts


def as_set(triplets):
    listed = list(zip(*(indices.tolist() for indices in triplets), strict=True))
    assert len(set(listed)) == len(listed)
    assert all(indices.dtype == torch.int64 for indices in triplets)
    assert listed == sorted(listed, key=lambda triplet: triplet[0])
    return set(listed)


# Whole numbers make ties common, and all sums and comparisons exact.
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
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return torch.tensor(rows, dtype=dtype).reshape(size, size), torch.tensor(
        labels, dtype=torch.int64
    )


@given(batch=batches() | batches(signed), margin=margins)
@settings(deadline=None, max_examples=250)
def test_semi_hard_agrees_with_a_triple_loop(batch, margin):
    distances, labels = batch
    expected = semi_hard_by_loops(distances.tolist(), labels.tolist(), margin)
    assert as_set(semi_hard(distances, labels, margin=margin)) == expected
    assert as_set(_miners._semi_hard_by_search(distances, labels, margin)) == expected


@given(batch=batches() | batches(signed))
@settings(deadline=None, max_examples=200)
def test_hard_agrees_with_a_double_loop(batch):
    distances, labels = batch
    expected = hard_by_loops(distances.tolist(), labels.tolist())
    assert as_set(hard(distances, labels)) == expected


@given(batch=batches() | batches(signed), margin=margins)
@settings(deadline=None, max_examples=250)
def test_batch_all_counts_agree_with_a_triple_loop(batch, margin):
    distances, labels = batch
    expected = counts_by_loops(distances.tolist(), labels.tolist(), margin)
    expected = torch.tensor(expected, dtype=distances.dtype).reshape(distances.shape)
    assert torch.equal(batch_all_counts(distances, labels, margin=margin), expected)
    assert torch.equal(_batch_all._batch_all_counts_by_search(distances, labels, margin), expected)


@given(batch=batches())
@settings(deadline=None, max_examples=100)
def test_random_gives_every_positive_pair_one_negative(batch):
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


def on_a_sphere(size, n_classes, dtype, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(size, 4, generator=generator, dtype=dtype)
    labels = torch.randint(n_classes, (size,), generator=generator)
    return torch.nn.functional.normalize(points, dim=1), labels


@pytest.mark.parametrize("size", [33, 257, 513])
@pytest.mark.parametrize("n_classes", [2, 9, 200])
@pytest.mark.parametrize("tied", [False, True], ids=["", "tied"])
def test_both_ways_agree_on_batches_of_several_chunks(size, n_classes, tied):
    points, labels = on_a_sphere(size, n_classes, torch.float32)
    distances = sqeuclidean(points)
    if tied:
        distances = (10 * distances).round() / 10
    by_keys = as_set(_sorted_keys._semi_hard_by_keys(distances, labels, 0.2))
    assert by_keys == as_set(_miners._semi_hard_by_search(distances, labels, 0.2))
    by_keys = _batch_all._batch_all_counts_by_keys(distances, labels, 0.2)
    assert torch.equal(by_keys, _batch_all._batch_all_counts_by_search(distances, labels, 0.2))
    in_numpy = _sorted_keys._hardest_in_numpy(distances, labels)
    in_torch = _miners._hardest_in_torch(distances, labels)
    several, others = (labels == labels[:, None]).sum(dim=1) > 1, (labels != labels[0]).any()
    assert torch.equal(in_numpy[0][several], in_torch[0][several])
    assert others
    assert torch.equal(in_numpy[1], in_torch[1])


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_results_do_not_depend_on_the_size_of_chunks(monkeypatch, chunk):
    points, labels = on_a_sphere(40, 3, torch.float32)
    distances = sqeuclidean(points)
    expected = semi_hard_by_loops(distances.tolist(), labels.tolist(), 0.25)
    expected_hard = hard_by_loops(distances.tolist(), labels.tolist())
    counts = batch_all_counts(distances.double(), labels, margin=0.25)
    monkeypatch.setattr(_sorted_keys, "_CHUNK", chunk)
    found = as_set(semi_hard(distances, labels, margin=0.25))
    # float32 adds the margin before it compares
    assert len(found ^ expected) <= 1
    assert as_set(hard(distances, labels)) == expected_hard
    assert (batch_all_counts(distances, labels, margin=0.25) != counts).sum() <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", DISTANCES)
def test_permuting_the_batch_permutes_the_triplets(metric, dtype):
    points, labels = on_a_sphere(60, 4, dtype)
    distances = DISTANCES[metric](points)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    for miner in (semi_hard, hard):
        before = as_set(miner(distances, labels, margin=0.2))
        permuted = miner(distances[order][:, order], labels[order], margin=0.2)
        assert len(before) > 20
        assert {tuple(order[list(triplet)].tolist()) for triplet in as_set(permuted)} == before


def test_triplets_of_a_scaled_batch_are_those_of_a_scaled_margin():
    points, labels = on_a_sphere(60, 4, torch.float32)
    once = as_set(semi_hard(sqeuclidean(points), labels, margin=0.25))
    assert as_set(semi_hard(sqeuclidean(2 * points), labels, margin=1.0)) == once


def test_ties_go_to_the_lowest_index():
    distances = torch.tensor([[0.0, 1.0, 1.5, 1.5, 1.25, 1.25]]).repeat(6, 1)
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    for precision in (torch.float32, torch.float64):
        first = semi_hard(distances.to(precision), labels, margin=1)
        assert (0, 1, 4) in as_set(first)
        labels_of_two = torch.tensor([0, 0, 0, 0, 1, 1])
        assert (0, 2, 4) in as_set(hard(distances.to(precision), labels_of_two))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_negative_as_near_as_the_positive_or_as_far_as_the_margin_is_not_semi_hard(dtype):
    distances = torch.tensor([[0.0, 1.0, 1.0, 1.5]], dtype=dtype).repeat(4, 1)
    labels = torch.tensor([0, 0, 1, 1])
    triplets = semi_hard(distances, labels, margin=0.5)
    assert 0 not in triplets.anchor
    assert (0, 1, 3) in as_set(semi_hard(distances, labels, margin=0.75))


@pytest.mark.parametrize("miner", MINERS.values())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "labels", [[], [3], [3, 3, 3], [1, 2, 3]], ids=["empty", "one row", "one class", "singletons"]
)
def test_batches_without_triplets(miner, labels, dtype):
    labels = torch.tensor(labels, dtype=torch.int64)
    distances = torch.rand(len(labels), len(labels), dtype=dtype)
    triplets = miner(distances, labels, margin=0.2)
    assert isinstance(triplets, Triplets)
    assert as_set(triplets) == set()
    counts = batch_all_counts(distances, labels, margin=0.2)
    assert torch.equal(counts, torch.zeros_like(distances))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_distances_forbid_pairs(dtype):
    distances = torch.tensor([[0.0, 1.0, math.inf, 1.5, 9.0]], dtype=dtype).repeat(5, 1)
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert (0, 1, 3) in as_set(semi_hard(distances, labels, margin=1))
    assert not any(2 in triplet[1:] for triplet in as_set(semi_hard(distances, labels, margin=1)))
    far = torch.tensor([[0.0, 1.0, math.inf, 1.5]], dtype=dtype).repeat(4, 1)
    assert (0, 1, 3) in as_set(hard(far, torch.tensor([0, 0, 1, 1])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_hard_mining_takes_no_negative_that_is_not_finite(dtype, value):
    distances = torch.tensor([[value, 0.0, 1.0]], dtype=dtype).repeat(3, 1)
    assert as_set(hard(distances, torch.tensor([1, 0, 0]))) == set()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, -math.inf, -5.0])
def test_the_distance_of_a_row_to_itself_is_not_looked_at(dtype, value):
    points, labels = on_a_sphere(20, 3, dtype)
    distances = sqeuclidean(points)
    odd = distances.clone().fill_diagonal_(value)
    for miner in (semi_hard, hard):
        expected = miner(distances, labels, margin=0.2)
        assert as_set(miner(odd, labels, margin=0.2)) == as_set(expected)
    expected = batch_all_counts(distances, labels, margin=0.2)
    assert torch.equal(batch_all_counts(odd, labels, margin=0.2), expected)


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_what_is_not_finite_does_no_harm(value, dtype, share):
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(30, 30, generator=generator, dtype=dtype)
    distances[torch.rand(30, 30, generator=generator) < share] = value
    labels = torch.randint(3, (30,), generator=generator)
    for miner in MINERS.values():
        for a, p, n in as_set(miner(distances, labels, margin=0.2)):
            assert a != p
            assert labels[a] == labels[p]
            assert labels[a] != labels[n]
    assert batch_all_counts(distances, labels, margin=0.2).shape == (30, 30)


def test_every_pattern_of_bits_is_survived():
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (64, 64), generator=generator).to(torch.int32)
    bits[:, ::5] = -1
    bits[:, 1::5] = 2**31 - 1
    bits[:, 2::5] = 0x7F7FFFFF  # the largest finite number
    labels = torch.randint(3, (64,), generator=generator)
    for miner in MINERS.values():
        as_set(miner(bits.view(torch.float32), labels, margin=0.2))
    batch_all_counts(bits.view(torch.float32), labels, margin=1e38)


def test_random_repeats_itself_with_its_generator():
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    distances = torch.zeros(8, 8)
    state = torch.random.get_rng_state()
    first, again = (
        random(distances, labels, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    other = random(distances, labels, generator=torch.Generator().manual_seed(6))
    assert torch.equal(first.negative, again.negative)
    assert not torch.equal(first.negative, other.negative)
    assert torch.equal(state, torch.random.get_rng_state())


def test_random_draws_all_negatives_equally_often():
    labels = torch.tensor([1, 0, 1, 2, 1, 0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat(
        [random(torch.zeros(6, 6), labels, generator=generator).negative for _ in range(2000)]
    ).reshape(2000, -1)
    anchors = random(torch.zeros(6, 6), labels).anchor
    from_class_1 = drawn[:, anchors == 0]
    counts = torch.bincount(from_class_1.flatten(), minlength=6)
    assert counts[[0, 2, 4]].sum() == 0
    # 4000 draws among three rows; five standard deviations are 150
    assert (counts[[1, 3, 5]] - 4000 / 3).abs().max() < 150


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_of_what_is_found(dtype):
    points, labels = on_a_sphere(20, 3, dtype)
    distances, labels = sqeuclidean(points), labels.to(torch.int32)
    assert batch_all_counts(distances, labels, margin=0.2).dtype == dtype
    for miner in MINERS.values():
        for n_rows in (20, 0):
            found = miner(distances[:n_rows, :n_rows], labels[:n_rows], margin=0.2)
            assert {indices.dtype for indices in found} == {torch.int64}


def test_random_draws_equally_among_many():
    """Numbers drawn from few, and then taken modulo the negatives, would favour the first ones."""
    labels = torch.cat([torch.zeros(300, dtype=torch.int64), torch.ones(100, dtype=torch.int64)])
    generator = torch.Generator().manual_seed(0)
    triplets = random(torch.zeros(400, 400), labels, generator=generator)
    counts = torch.bincount(triplets.negative[triplets.anchor >= 300], minlength=300)[:300]
    # 9900 draws among 300 rows: 33 each, with a standard deviation of 6
    assert counts.min() > 5
    assert counts.max() < 65


@pytest.mark.parametrize("miner", MINERS.values())
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_type(miner, dtype):
    points, labels = on_a_sphere(20, 3, torch.float32)
    found = miner(
        sqeuclidean(points),
        labels.to(dtype),
        margin=0.2,
        generator=torch.Generator().manual_seed(0),
    )
    expected = miner(
        sqeuclidean(points), labels, margin=0.2, generator=torch.Generator().manual_seed(0)
    )
    assert as_set(found) == as_set(expected)


@pytest.mark.parametrize("miner", [*MINERS.values(), batch_all_counts])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_layout_is_expected_and_nothing_is_written_to(miner, dtype):
    points, labels = on_a_sphere(20, 3, dtype)
    labels = labels.repeat_interleave(2)[::2]
    distances = sqeuclidean(points)
    wide = torch.zeros(40, 60, dtype=dtype)
    wide[::2, ::3] = distances
    kept = distances.clone()
    expected = miner(distances, labels, margin=0.2) if miner is not random else None
    strided = miner(wide[::2, ::3], labels, margin=0.2)
    transposed = miner(distances.T.contiguous().T, labels, margin=0.2)
    assert torch.equal(distances, kept)
    if expected is None:
        return
    for found in (strided, transposed):
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


@given(batch=batches(), margin=margins)
@example(batch=(torch.zeros(4, 4), torch.tensor([0, 0, 1, 1])), margin=0.5)
@settings(deadline=None, max_examples=50)
def test_counts_of_a_row_cancel(batch, margin):
    distances, labels = batch
    counts = batch_all_counts(distances, labels, margin=margin)
    assert torch.equal(counts.sum(dim=1), torch.zeros(len(labels), dtype=distances.dtype))


def test_all_semi_hard_triplets_of_pytorch_metric_learning_hold_ours_as_the_nearest():
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    lp_distance = pytest.importorskip("pytorch_metric_learning.distances").LpDistance
    theirs = miners.TripletMarginMiner(
        margin=0.2,
        type_of_triplets="semihard",
        distance=lp_distance(p=2, power=2, normalize_embeddings=False),
    )
    points, labels = on_a_sphere(60, 4, torch.float64)
    distances = sqeuclidean(points)
    nearest = {}
    for a, p, n in as_set_of(theirs(points, labels)):
        if (a, p) not in nearest or distances[a, n] < distances[a, nearest[a, p]]:
            nearest[a, p] = n
    ours = as_set(semi_hard(distances, labels, margin=0.2))
    assert ours == {(a, p, n) for (a, p), n in nearest.items()}


def test_batch_hard_of_pytorch_metric_learning_is_ours():
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    lp_distance = pytest.importorskip("pytorch_metric_learning.distances").LpDistance
    theirs = miners.BatchHardMiner(distance=lp_distance(p=2, power=2, normalize_embeddings=False))
    points, labels = on_a_sphere(60, 4, torch.float64)
    found = as_set_of(theirs(points, labels))
    assert as_set(hard(sqeuclidean(points), labels)) == found


def as_set_of(triplets):
    return set(zip(*(indices.tolist() for indices in triplets), strict=True))
