"""Batch-all: the loss over every triplet, by counting them or in chunks."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from sktriplet.distances import sqeuclidean
from sktriplet.losses import TripletLoss
from sktriplet.losses._batch_all import batch_all_counts


def counts_by_loops(distances, labels, margin):
    counts = [[0] * len(labels) for _ in labels]
    rows = range(len(labels))
    for a in rows:
        for p in rows:
            for n in rows:
                is_triplet = a != p and labels[a] == labels[p] and labels[a] != labels[n]
                if is_triplet and distances[a][n] < distances[a][p] + margin:
                    counts[a][p] += 1
                    counts[a][n] -= 1
    return counts


# Multiples of 0.5 make ties common, and all sums and comparisons exact.
halves = st.integers(-7, 12).map(lambda value: value / 2)
margins = st.sampled_from([0.5, 1.0, 2.0, 3.5, 100.0])


@st.composite
def distance_batches(draw):
    size = draw(st.integers(0, 10))
    labels = draw(st.lists(st.integers(-1, 3), min_size=size, max_size=size))
    row = st.lists(halves, min_size=size, max_size=size)
    rows = draw(st.lists(row, min_size=size, max_size=size))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    distances = torch.tensor(rows, dtype=dtype).reshape(size, size)
    return distances, torch.tensor(labels, dtype=torch.int64)


@given(batch=distance_batches(), margin=margins)
@example(batch=(torch.zeros(4, 4), torch.tensor([0, 0, 1, 1])), margin=0.5)
@settings(deadline=None, max_examples=250)
def test_batch_all_counts_match_definition(batch, margin):
    distances, labels = batch
    expected = counts_by_loops(distances.tolist(), labels.tolist(), margin)
    expected = torch.tensor(expected, dtype=distances.dtype).reshape(distances.shape)
    counts = batch_all_counts(distances, labels, margin=margin)
    assert torch.equal(counts, expected)
    assert torch.equal(counts.sum(dim=1), torch.zeros(len(labels), dtype=distances.dtype))
    in_double = batch_all_counts(distances.double(), labels, margin=margin)
    assert torch.equal(in_double, expected.double())


@pytest.mark.parametrize("size", [33, 257, 513])
@pytest.mark.parametrize("n_classes", [2, 9, 200])
@pytest.mark.parametrize("resolution", [2**-3, 2**-20], ids=["tied", "untied"])
def test_batch_all_counts_of_large_batches(size, n_classes, resolution, make_batch):
    """The float32 path agrees with the generic one where no sum is rounded."""
    points, labels = make_batch(size, n_classes)
    points = torch.nn.functional.normalize(points, dim=1)
    distances = (sqeuclidean(points) / resolution).round() * resolution
    in_float = batch_all_counts(distances.float(), labels, margin=0.25)
    assert torch.equal(in_float.double(), batch_all_counts(distances, labels, margin=0.25))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [[], [3], [3, 3, 3], [1, 2, 3]])
def test_batch_all_counts_without_triplets(labels, dtype):
    labels = torch.tensor(labels, dtype=torch.int64)
    distances = torch.rand(len(labels), len(labels), dtype=dtype)
    counts = batch_all_counts(distances, labels, margin=0.2)
    assert counts.dtype == dtype
    assert torch.equal(counts, torch.zeros_like(distances))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_all_counts_accept_strided_input(dtype, make_batch):
    points, labels = make_batch(20)
    distances = sqeuclidean(points).to(dtype)
    labels = labels.repeat_interleave(2)[::2]
    wide = torch.zeros(40, 60, dtype=dtype)
    wide[::2, ::3] = distances
    kept = distances.clone()
    expected = batch_all_counts(distances, labels, margin=0.2)
    assert torch.equal(distances, kept)
    assert torch.equal(batch_all_counts(wide[::2, ::3], labels, margin=0.2), expected)
    transposed = distances.T.contiguous().T
    assert torch.equal(batch_all_counts(transposed, labels, margin=0.2), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, -math.inf, -5.0])
def test_batch_all_counts_ignore_diagonal(dtype, value, make_batch):
    points, labels = make_batch(20)
    distances = sqeuclidean(points).to(dtype)
    expected = batch_all_counts(distances, labels, margin=0.2)
    distances.fill_diagonal_(value)
    assert torch.equal(batch_all_counts(distances, labels, margin=0.2), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_batch_all_counts_of_non_finite_distances(dtype, value, make_batch):
    _, labels = make_batch(30)
    distances = torch.rand(30, 30, generator=torch.Generator().manual_seed(0), dtype=dtype)
    distances[distances < 0.3] = value
    assert batch_all_counts(distances, labels, margin=0.2).shape == (30, 30)


def test_batch_all_of_large_batch(make_batch):
    """More triplets than are held in memory at once."""
    embeddings, labels = make_batch(220, 2, dtype=torch.float32)
    ours, theirs = (embeddings.clone().requires_grad_() for _ in range(2))
    criterion = TripletLoss(mining="all", loss="soft_margin", reduction="sum")
    distances = sqeuclidean(theirs)
    same = labels[:, None] == labels
    is_triplet = same.fill_diagonal_(False)[:, :, None] & (labels[:, None] != labels)[:, None, :]
    differences = distances[:, :, None] - distances[:, None, :]
    expected = torch.nn.functional.softplus(differences[is_triplet]).sum()
    loss = criterion(ours, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1.0)
    assert theirs.grad.abs().mean() > 1e4


def test_batch_all_second_derivatives(make_batch):
    embeddings, labels = make_batch(8, 3)
    criterion = TripletLoss(0.5, mining="all")
    assert gradgradcheck(lambda points: criterion(points, labels), embeddings.requires_grad_())


def test_batch_all_second_derivatives_need_hinge(make_batch):
    embeddings, labels = make_batch(8, 3)
    loss = TripletLoss(mining="all", loss="soft_margin")(embeddings.requires_grad_(), labels)
    with pytest.raises(RuntimeError, match=r"mining='all'|once_differentiable"):  # noqa: PT012
        (gradient,) = torch.autograd.grad(loss, embeddings, create_graph=True)
        torch.autograd.grad(gradient.square().sum(), embeddings)


def test_batch_all_callable_loss(make_batch):
    def exponential(d_ap, d_an, margin):
        return torch.exp(d_ap - d_an + margin)

    embeddings, labels = make_batch(10)
    criterion = TripletLoss(mining="all", loss=exponential, reduction="sum")
    assert gradcheck(lambda points: criterion(points, labels), embeddings.requires_grad_())


def test_batch_all_constant_loss(make_batch):
    embeddings, labels = make_batch(10)
    constant = TripletLoss(mining="all", loss=lambda d_ap, d_an, margin: torch.ones_like(d_ap))
    constant(embeddings.requires_grad_(), labels).backward()
    assert not embeddings.grad.any()
