"""The contract of all batch losses: ``(embeddings, labels) -> scalar``, and `statistics`."""

import copy
import math
import pickle

import pytest
import torch

from sktriplet.distances import sqeuclidean
from sktriplet.losses import ContrastiveLoss, TripletLoss, TripletNCALoss
from sktriplet.losses._base import accepts_stacks
from sktriplet.mining import hard

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


STACKABLE = [TripletLoss, TripletNCALoss]


class TestStack:
    """A stack of batches (G, B, D) gives what its batches give one by one."""

    @pytest.mark.parametrize("make_loss", STACKABLE)
    @pytest.mark.parametrize("mining", ["semi_hard", "hard", "all", hard])
    @pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine", sqeuclidean])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("reduction", ["mean", "active_mean", "sum"])
    def test_mean_of_batches(self, make_loss, mining, metric, dtype, reduction, make_batch):
        criterion = make_loss(mining=mining, metric=metric, reduction=reduction)
        batches = [make_batch(9, 3, seed=seed) for seed in range(3)]
        stack = torch.stack([batch for batch, _ in batches]).to(dtype).requires_grad_()
        labels = torch.stack([labels for _, labels in batches])
        losses, statistics = [], []
        for batch, of_batch in zip(stack, labels, strict=True):
            losses.append(criterion(batch, of_batch))
            statistics.append(criterion.statistics)
        expected = torch.stack(losses).mean()
        (expected_gradient,) = torch.autograd.grad(expected, stack)
        loss = criterion(stack, labels)
        (gradient,) = torch.autograd.grad(loss, stack)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient, expected_gradient)
        for name, values in criterion.statistics.items():
            expected_values = torch.stack([of_batch[name] for of_batch in statistics])
            torch.testing.assert_close(values, expected_values, equal_nan=True, check_dtype=False)

    @pytest.mark.parametrize("make_loss", STACKABLE)
    def test_shared_labels(self, make_loss, make_batch):
        stack, labels = make_batch(9)
        stack = torch.stack((stack, stack.flip(1) * 2))
        shared = make_loss()(stack, labels)
        assert torch.equal(shared, make_loss()(stack, torch.stack((labels, labels))))

    def test_batch_without_pairs(self):
        labels = torch.tensor([[0, 0, 1], [0, 1, 2]])
        stack = torch.rand(2, 3, 4, requires_grad=True)
        criterion = TripletNCALoss()
        criterion(stack, labels).backward()
        assert torch.isfinite(stack.grad).all()
        assert torch.equal(stack.grad[1], torch.zeros(3, 4))

    def test_number_of_batches(self):
        with pytest.raises(ValueError, match="number of batches, got 3 and 2"):
            TripletLoss()(torch.rand(2, 4, 3), torch.zeros(3, 4).long())

    def test_triplets_are_indices_into_one_batch(self):
        triplets = torch.zeros(3, 1, dtype=torch.int64)
        with pytest.raises(ValueError, match="not for a stack"):
            TripletLoss()(torch.rand(2, 3, 4), triplets=tuple(triplets))

    def test_only_classes_that_say_so(self, make_batch):
        """A subclass may override ``forward`` for single batches."""

        class Subclass(TripletLoss):
            pass

        assert accepts_stacks(TripletLoss())
        stack, labels = make_batch(9)
        for criterion in (Subclass(), ContrastiveLoss()):
            assert not accepts_stacks(criterion)
            with pytest.raises(ValueError, match=r"shape \(B, D\)"):
                criterion(stack[None], labels)
