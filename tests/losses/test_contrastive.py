import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from sktriplet.losses import ContrastiveLoss


@pytest.mark.parametrize("reduction", ["active_mean", "mean", "sum"])
@given(
    data=st.data(), pos_margin=st.sampled_from([0.0, 0.5]), neg_margin=st.sampled_from([1.0, 3.0])
)
@settings(deadline=None, max_examples=50)
def test_contrastive_loss_matches_definition(
    batches, exact_sqeuclidean, reduction, data, pos_margin, neg_margin
):
    embeddings, labels = data.draw(batches)
    criterion = ContrastiveLoss(
        pos_margin, neg_margin, metric=exact_sqeuclidean, reduction=reduction
    )
    found = criterion(embeddings, labels)
    distances = exact_sqeuclidean(embeddings).tolist()
    losses = {True: [], False: []}
    lengths = {True: [], False: []}
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            same = bool(labels[i] == labels[j])
            d = distances[i][j]
            losses[same].append(max(d - pos_margin, 0) if same else max(neg_margin - d, 0))
            lengths[same].append(d)
    expected = 0.0
    for pairs in losses.values():
        n_active = sum(loss > 0 for loss in pairs)
        divisor = {"sum": 1, "mean": len(pairs), "active_mean": n_active}[reduction]
        expected += sum(pairs) / max(divisor, 1)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    statistics = {name: value.item() for name, value in criterion.statistics.items()}
    for name, same in ("d_ap", True), ("d_an", False):
        mean = sum(lengths[same]) / len(lengths[same]) if lengths[same] else math.nan
        assert statistics[name] == pytest.approx(mean, nan_ok=True)
    both = losses[True] + losses[False]
    fraction = sum(loss > 0 for loss in both) / len(both) if both else math.nan
    assert statistics["active_fraction"] == pytest.approx(fraction, nan_ok=True)
    assert math.isnan(statistics["triplet_fraction"])


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_contrastive_loss_gradient(metric, make_batch):
    embeddings, labels = make_batch(10, 3)
    criterion = ContrastiveLoss(0.1, 1.5, metric=metric)
    assert gradcheck(lambda points: criterion(points, labels), embeddings.requires_grad_())


def test_contrastive_loss_repr():
    assert repr(ContrastiveLoss(0.25, reduction="sum")) == (
        "ContrastiveLoss(pos_margin=0.25, neg_margin=1.0, metric='euclidean', reduction='sum')"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("pos_margin", value) for value in (-1, math.nan, math.inf, True, "0.2", None, 1j)),
        *(("neg_margin", value) for value in (0, -1.0, math.nan, math.inf, True, "1", None)),
    ],
)
def test_contrastive_loss_invalid_margin(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        ContrastiveLoss(**{name: value})


def test_contrastive_loss_zero_pos_margin():
    assert ContrastiveLoss(0, 2).pos_margin == 0


def test_matches_pytorch_metric_learning(make_batch):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    distance = distances.LpDistance(p=2, power=1, normalize_embeddings=False)
    theirs = losses.ContrastiveLoss(pos_margin=0.5, neg_margin=2.0, distance=distance)
    ours = ContrastiveLoss(0.5, 2.0, reduction="active_mean")
    batch = make_batch()
    torch.testing.assert_close(ours(*batch), theirs(*batch))
