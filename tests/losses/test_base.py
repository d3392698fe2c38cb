"""The contract of all batch losses: ``(embeddings, labels) -> scalar``, and `statistics`."""

import copy
import math
import pickle

import pytest
import torch

from sktriplet.losses import ContrastiveLoss, TripletLoss, TripletNCALoss

LOSSES = [TripletLoss, TripletNCALoss, ContrastiveLoss]
METRICS = ["sqeuclidean", "euclidean", "cosine"]
STATISTICS = {"triplet_fraction", "active_fraction", "d_ap", "d_an", "spread"}


def all_losses(**parameters):
    return [
        *(
            TripletLoss(mining=mining, loss=loss, generator=torch.Generator(), **parameters)
            for mining in ("semi_hard", "hard", "random", "all")
            for loss in ("hinge", "soft_margin")
        ),
        TripletNCALoss(generator=torch.Generator(), **parameters),
        ContrastiveLoss(**parameters),
    ]


def repr_of(loss):
    return repr(loss).replace("'", "")


@pytest.fixture(params=all_losses(), ids=repr_of)
def criterion(request):
    return copy.deepcopy(request.param)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("collapsed", [False, True], ids=["duplicates", "collapsed"])
def test_gradient_is_finite_for_duplicates(metric, collapsed, make_batch):
    embeddings, labels = make_batch(dtype=torch.float32)
    embeddings[5:10] = embeddings[:5]
    embeddings[10:12] = 0
    if collapsed:
        embeddings[:] = embeddings[0].clone()
    for criterion in all_losses(metric=metric):
        leaf = embeddings.clone().requires_grad_()
        loss = criterion(leaf, labels)
        loss.backward()
        assert loss.isfinite()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize(
    "labels",
    [[], [1], [1, 1, 1], [0, 1, 2]],
    ids=["empty", "one sample", "one class", "singletons"],
)
def test_batch_without_triplets(criterion, labels):
    """The loss is zero and still connected to the graph."""
    leaf = torch.ones(len(labels), 2).cumsum(0).requires_grad_()
    loss = criterion(leaf, torch.tensor(labels, dtype=torch.int64))
    assert loss.shape == ()
    if not isinstance(criterion, ContrastiveLoss):
        assert loss.item() == 0
    loss.backward()
    assert leaf.grad.isfinite().all()
    assert set(criterion.statistics) == STATISTICS


def test_statistics(criterion, make_batch):
    embeddings, labels = make_batch()
    assert criterion.statistics == {}
    criterion(embeddings.requires_grad_(), labels)
    assert set(criterion.statistics) == STATISTICS
    for value in criterion.statistics.values():
        assert value.shape == ()
        assert not value.requires_grad
    spread = (embeddings - embeddings.mean(0)).square().sum(1).mean().sqrt()
    torch.testing.assert_close(criterion.statistics["spread"], spread.detach())


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_non_finite_embeddings_do_not_crash(criterion, value, dtype, make_batch):
    embeddings, labels = make_batch(dtype=dtype)
    embeddings[3] = value
    assert criterion(embeddings.requires_grad_(), labels).shape == ()


def test_half_precision_and_autocast_use_float32(criterion, make_batch):
    def loss_of(points):
        if isinstance(criterion, TripletLoss):
            criterion.generator.manual_seed(0)
        return criterion(points, labels)

    embeddings, labels = make_batch(dtype=torch.bfloat16)
    low = embeddings.clone().requires_grad_()
    loss, expected = loss_of(low), loss_of(embeddings.float())
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    loss.backward()
    assert low.grad.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss_of(embeddings.float()), expected)


def test_float64_is_kept(criterion, make_batch):
    assert criterion(*make_batch()).dtype == torch.float64


def test_no_gradient_without_grad_mode(criterion, make_batch):
    embeddings, labels = make_batch()
    with torch.inference_mode():
        assert not criterion(embeddings, labels).requires_grad
    assert not criterion(embeddings, labels).requires_grad
    with torch.no_grad():
        assert not criterion(embeddings.requires_grad_(), labels).requires_grad


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copy(criterion, copied, make_batch):
    embeddings, labels = make_batch()
    fresh = copied(criterion)
    assert torch.equal(fresh(embeddings, labels), criterion(embeddings, labels))
    used = copied(criterion)
    assert repr(used) == repr(criterion)
    assert set(used.statistics) == STATISTICS


@pytest.mark.parametrize("make_loss", LOSSES)
@pytest.mark.parametrize("name", ["metric", "reduction"])
@pytest.mark.parametrize("value", ["nonsense", None, 3, ["hinge"]])
def test_invalid_metric_or_reduction(make_loss, name, value):
    with pytest.raises(
        (TypeError, ValueError), match=rf"(?s){name}.*{value!r}".replace("[", r"\[")
    ):
        make_loss(**{name: value})


@pytest.mark.parametrize("make_loss", LOSSES)
def test_reduction_is_not_callable(make_loss):
    with pytest.raises((TypeError, ValueError), match="reduction"):
        make_loss(reduction=torch.mean)


@pytest.mark.parametrize("make_loss", LOSSES)
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda X, y: (X[:, 0], y), ValueError, r"embeddings .*\(24,\)"),
        (lambda X, y: (X.int(), y), TypeError, "embeddings .*int32"),
        (lambda X, y: (X.numpy(), y), TypeError, "embeddings .*ndarray"),
        (lambda X, y: (X, y.float()), TypeError, "labels .*float32"),
        (lambda X, y: (X, y.tolist()), TypeError, "labels .*list"),
        (lambda X, y: (X, y[:, None]), ValueError, r"labels .*\(24, 1\)"),
        (lambda X, y: (X, y[1:]), ValueError, "labels .*23.*24"),
    ],
)
def test_invalid_batch(make_loss, change, error, match, make_batch):
    with pytest.raises(error, match=match):
        make_loss()(*change(*make_batch()))


@pytest.mark.parametrize(
    ("metric", "match"),
    [
        (lambda points: points, r"metric .*\(24, 24\).*\(24, 4\)"),
        (lambda points: None, "metric .*NoneType"),
        (lambda points: torch.cdist(points, points).detach(), "metric .*differentiate"),
    ],
    ids=["shape", "None", "detached"],
)
@pytest.mark.parametrize("make_loss", LOSSES)
def test_invalid_metric_output(make_loss, metric, match, make_batch):
    embeddings, labels = make_batch()
    with pytest.raises(ValueError, match=match):
        make_loss(metric=metric)(embeddings.requires_grad_(), labels)
