import pickle
import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch.utils.data import DataLoader, IterableDataset

from sktriplet.exceptions import CollapseWarning
from sktriplet.losses import ContrastiveLoss, TripletLoss
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.mining import semi_hard
from sktriplet.networks import MLP
from sktriplet.training import TripletNet
from sktriplet.training._random_state import DEVICE_GENERATORS, isolated_rng, one_thread


@pytest.fixture
def rows(blobs):
    X, y = blobs
    return X.astype(np.float32), y


@pytest.fixture
def make_net():
    def make(**parameters):
        module = MLP((5,), 3, (8,), generator=torch.Generator().manual_seed(0))
        defaults = {"max_epochs": 3, "min_batches": 4, "random_state": 0, "verbose": 0}
        return TripletNet(module, **(defaults | parameters))

    return make


def weights(net):
    return torch.nn.utils.parameters_to_vector(net.module_.parameters()).detach()


def test_training_brings_classes_together(make_net, rng):
    X = rng.normal(size=(200, 5)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    net = make_net(max_epochs=20, lr=0.01)
    before = mean_average_precision_at_r_score(net.initialize().embed(X), y)
    after = mean_average_precision_at_r_score(net.partial_fit(X, y).embed(X), y)
    assert after > before + 0.2


def test_history(make_net, rows):
    net = make_net().fit(*rows)
    assert len(net.history) == 3
    assert net.history[:, "train_batch_count"] == [4, 4, 4]
    assert net.history[0, "batches", :, "train_batch_size"] == [60] * 4


def test_history_holds_the_statistics_of_the_criterion(make_net, rows):
    epoch = make_net(max_epochs=1).fit(*rows).history[-1]
    for name in ("triplet_fraction", "active_fraction", "d_ap", "d_an", "spread"):
        batches = [batch[name] for batch in epoch["batches"]]
        assert len(batches) == 4
        assert epoch[name] == pytest.approx(np.mean(batches))
    assert epoch["d_ap"] < epoch["d_an"], "semi-hard by definition"


def test_an_epoch_without_triplets_has_undefined_means(make_net, rows):
    net = make_net(max_epochs=1, criterion__mining=no_triplet).fit(*rows)
    assert np.isnan(net.history[-1, "d_ap"])
    assert net.history[-1, "triplet_fraction"] == 0
    assert net.history[-1, "train_loss"] == 0


def no_triplet(distances, labels, *, margin, generator):
    return labels[:0], labels[:0], labels[:0]


def test_a_criterion_without_statistics(make_net, rows):
    net = make_net(criterion=torch.nn.CrossEntropyLoss).fit(*rows)
    assert np.isfinite(net.history[:, "train_loss"]).all()
    assert "spread" not in net.history[-1]


def test_contrastive_loss(make_net, rows):
    net = make_net(criterion=ContrastiveLoss, criterion__neg_margin=2.0).fit(*rows)
    assert net.criterion_.neg_margin == 2.0
    assert "spread" in net.history[-1]


class TwoMembers(torch.nn.Module):
    """Parts of three and two columns, of the lengths that members have on the unit sphere."""

    n_members = 2

    def __init__(self):
        super().__init__()
        self.body = MLP((5,), 5, (8,), generator=torch.Generator().manual_seed(0))

    def forward(self, X):
        parts = self.body(X).tensor_split(2, dim=1)
        return torch.cat([torch.nn.functional.normalize(part, dim=1) for part in parts], 1) / 2**0.5


class TestMembers:
    def test_each_is_judged_for_itself(self, rows):
        X, y = map(torch.as_tensor, rows)
        net = TripletNet(TwoMembers(), criterion__margin=1.0, random_state=0).initialize()
        embeddings = net.module_(X)
        parts = [
            torch.nn.functional.normalize(part, dim=1)
            for part in (embeddings[:, :3], embeddings[:, 3:])
        ]
        expected = sum(net.criterion_(part, y) for part in parts) / 2
        assert net.get_loss(embeddings, y).item() == pytest.approx(expected.item(), rel=1e-5)

    def test_statistics_are_means_over_members(self, rows):
        parts = []

        class Spy(TripletLoss):
            def forward(self, embeddings, labels):
                loss = super().forward(embeddings, labels)
                parts.append((embeddings.shape[1], self.statistics["spread"].item()))
                return loss

        settings = {"max_epochs": 1, "min_batches": 4, "random_state": 0, "verbose": 0}
        net = TripletNet(TwoMembers(), Spy, **settings).fit(*rows)
        assert [width for width, _ in parts] == [3, 2] * 4
        spreads = np.reshape([spread for _, spread in parts], (4, 2)).mean(axis=1)
        assert net.history[0, "batches", :, "spread"] == pytest.approx(spreads, rel=1e-5)
        assert net.history[0, "spread"] == pytest.approx(spreads.mean(), rel=1e-5)

    def test_a_member_without_triplets_leaves_the_mean_to_others(self, rows):
        calls = []

        def every_second_time(distances, labels, *, margin, generator):
            calls.append(margin)
            if len(calls) % 2:
                return labels[:0], labels[:0], labels[:0]
            return semi_hard(distances, labels, margin=margin)

        settings = {"max_epochs": 1, "min_batches": 4, "random_state": 0, "verbose": 0}
        net = TripletNet(TwoMembers(), criterion__mining=every_second_time, **settings).fit(*rows)
        assert np.isfinite(net.history[0, "d_ap"])
        assert 0 < net.history[0, "triplet_fraction"] <= 0.5


class TestCollapse:
    def test_one_point_is_warned_about(self, rows):
        X, y = rows
        net = TripletNet(Shrinking(), max_epochs=2, min_batches=4, random_state=0, verbose=0)
        with pytest.warns(CollapseWarning, match="spread fell from .* Try mining='semi_hard'"):
            net.fit(X, y)

    def test_a_criterion_without_statistics_before(self, rows):
        X, y = rows
        settings = {"max_epochs": 1, "min_batches": 4, "random_state": 0, "verbose": 0}
        net = TripletNet(Copy(), torch.nn.CrossEntropyLoss, **settings).fit(X, y)
        again = TripletNet(Copy(), **settings).initialize()
        again.go_on_from(net)
        again.partial_fit(X, y)
        assert ["spread" in epoch for epoch in again.epochs] == [False, True]

    def test_separated_classes_are_not(self, rows):
        """Nothing is left to mine, but that is success."""
        X, y = np.eye(3, dtype=np.float32)[rows[1]], rows[1]
        net = TripletNet(Copy(), max_epochs=2, min_batches=4, random_state=0, verbose=0)
        net.fit(X, y)
        assert net.history[-1, "triplet_fraction"] == 0
        assert net.history[-1, "spread"] > 0.5


class Shrinking(torch.nn.Module):
    """Draws all rows nearer to one point with every batch."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.n_batches = 0

    def forward(self, X):
        self.n_batches += self.training
        return X * self.scale * 0.1**self.n_batches


class Copy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, X):
        return X * self.scale


def test_the_schedule_can_be_switched_off(make_net, rows):
    net = make_net(callbacks__lr_scheduler=None).fit(*rows)
    assert net.optimizer_.param_groups[0]["lr"] == net.lr


def test_the_schedule_goes_by_the_batches_that_come(make_net, rows):
    """Of an iterator that was prepared for many processes, say, and is shorter by then."""

    class Half(TripletNet):
        def get_iterator(self, dataset, training=False):
            return list(super().get_iterator(dataset, training))[::2]

    net = make_net(max_epochs=2)
    half = Half(**net.get_params(deep=False)).fit(*rows)
    assert half.history[:, "train_batch_count"] == [2, 2]
    assert half.batches_per_epoch_ == 2
    assert half.history[:, "lr"] == net.fit(*rows).history[:, "lr"]


def test_embed_is_the_forward_pass_in_evaluation_mode(make_net, rows):
    net = make_net().fit(*rows)
    net.module_.train()
    embedded = net.embed(rows[0])
    assert net.module_.training
    with torch.no_grad():
        expected = net.module_.eval()(torch.from_numpy(rows[0]))
    np.testing.assert_allclose(embedded, expected, rtol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 7, 60, 1000])
def test_embed_in_chunks(make_net, rows, chunk_size):
    net = make_net().initialize()
    np.testing.assert_allclose(net.embed(rows[0], chunk_size), net.embed(rows[0]), rtol=1e-5)


def test_large_rows_are_embedded_a_few_at_a_time(rows):
    sizes = []

    class Watch(Copy):
        def forward(self, X):
            sizes.append(len(X))
            return super().forward(X)[:, :2]

    net = TripletNet(Watch(), verbose=0).initialize()
    assert net.embed(np.zeros((100, 100_000), np.float32)).shape == (100, 2)
    assert sizes == [41, 41, 18]
    assert net.embed(np.zeros((5000, 2), np.float32)).shape == (5000, 2)
    assert sizes[3:] == [4096, 904]


def test_half_precision_comes_out_as_float32(rows):
    class Half(Copy):
        def forward(self, X):
            return super().forward(X).bfloat16()

    embedded = TripletNet(Half(), verbose=0).initialize().embed(rows[0])
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, rows[0], rtol=0.01)


def test_defaults_of_criterion_and_optimizer(make_net):
    net = make_net().initialize()
    assert net.criterion_.reduction == "mean"
    assert net.optimizer_.param_groups[0]["fused"] is True
    net = make_net(criterion__reduction="sum", optimizer__fused=False).initialize()
    assert net.criterion_.reduction == "sum"
    assert net.optimizer_.param_groups[0]["fused"] is False


def test_a_seed_decides_everything(make_net, rows):
    torch.manual_seed(1)
    first = make_net().fit(*rows)
    torch.manual_seed(2)
    assert torch.equal(weights(first), weights(make_net().fit(*rows)))
    assert not torch.equal(weights(first), weights(make_net(random_state=1).fit(*rows)))


def test_what_a_module_draws_is_seeded_too(rows):
    def fitted():
        torch.manual_seed(7)
        module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(5, 2))
        torch.seed()
        return TripletNet(module, max_epochs=2, min_batches=2, random_state=0, verbose=0).fit(*rows)

    assert torch.equal(weights(fitted()), weights(fitted()))


def test_epochs_differ(make_net, rows):
    seen = []

    class Draw(Callback):
        def on_epoch_begin(self, net, **kwargs):
            seen.append(torch.rand(1).item())

    make_net(callbacks=[Draw()]).fit(*rows)
    assert len(set(seen)) == 3


def test_global_random_state_is_put_back(make_net, rows):
    net = make_net()
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    net.fit(*rows)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()


@pytest.mark.parametrize("other", [torch.cuda, torch.mps])
def test_devices_that_are_not_used_are_not_seeded(make_net, rows, other, monkeypatch):
    monkeypatch.setattr(other, "manual_seed", None)
    monkeypatch.setattr(torch, "manual_seed", None)
    if other is torch.cuda:
        monkeypatch.setattr(other, "manual_seed_all", None)
    make_net().fit(*rows)


def test_mps_is_seeded_and_put_back(monkeypatch):
    """As far as that can be told without one."""
    state = [7]
    generator = DEVICE_GENERATORS["mps"]
    monkeypatch.setattr(generator, "read", lambda: state[0])
    monkeypatch.setattr(generator, "write", lambda value: state.__setitem__(0, value))
    monkeypatch.setattr(torch.mps, "manual_seed", lambda value: state.__setitem__(0, value))
    with isolated_rng(3, "mps"):
        assert state == [3]
    assert state == [7]


def test_without_a_seed_the_global_generator_is_used(rows):
    with isolated_rng(None, "cpu"):
        before = torch.get_rng_state()
        torch.rand(1)
    assert not torch.equal(before, torch.get_rng_state())


def test_one_thread():
    with one_thread():
        assert torch.get_num_threads() == 1


def test_one_thread_is_put_back_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError), one_thread():
            raise RuntimeError(f"{torch.get_num_threads()} thread")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_partial_fit_goes_on_with_fresh_batches(make_net, rows):
    net = make_net(callbacks__lr_scheduler=None, max_epochs=2).fit(*rows)
    net.partial_fit(*rows)
    in_one_go = make_net(callbacks__lr_scheduler=None, max_epochs=4).fit(*rows)
    assert torch.allclose(weights(net), weights(in_one_go))


def test_a_data_loader_of_ones_own(make_net, rows):
    net = make_net(
        iterator_train=DataLoader, iterator_train__shuffle=True, batch_size=20, max_epochs=2
    ).fit(*rows)
    assert net.history[:, "train_batch_count"] == [3, 3]


def test_a_validation_split(make_net, rows):
    split = ValidSplit(3, stratified=True)
    net = make_net(train_split=split, iterator_train=DataLoader, iterator_valid=DataLoader)
    assert np.isfinite(net.fit(*rows).history[:, "valid_loss"]).all()


def test_a_validation_split_with_balanced_batches(make_net, rows):
    """skorch's split gives subsets, of which the sampler must find the labels."""
    net = make_net(train_split=ValidSplit(3, stratified=True)).fit(*rows)
    assert np.isfinite(net.history[:, "valid_loss"]).all()
    assert net.history[0, "batches", 0, "train_batch_size"] == 40


def test_statistics_are_those_of_training_batches(make_net, rows):
    """Validation batches stand in the same list."""
    alone = make_net(train_split=None).fit(*rows)
    assert all("spread" in batch for batch in alone.history[0]["batches"])
    batches = make_net(train_split=ValidSplit(3)).fit(*rows).history[0]["batches"]
    assert ["spread" in batch for batch in batches] == [True] * 4 + [False]


def test_iterable_data_of_unknown_length(make_net, rows):
    class Stream(IterableDataset):
        def __iter__(self):
            return zip(torch.from_numpy(rows[0]), torch.from_numpy(rows[1]), strict=True)

    net = make_net(iterator_train=DataLoader, callbacks__lr_scheduler=None, batch_size=60)
    net.fit(Stream(), None)
    assert net.history[:, "train_batch_count"] == [1, 1, 1]


def test_go_on_from(make_net, rows):
    first = make_net(max_epochs=2, callbacks__lr_scheduler=None).fit(*rows)
    second = make_net(max_epochs=1, lr=0.5, callbacks__lr_scheduler=None).initialize()
    second.module_.load_state_dict(first.module_.state_dict())
    second.go_on_from(first)
    step = first.optimizer_.state_dict()["state"][0]["step"].clone()
    second.partial_fit(*rows)
    assert second.optimizer_.param_groups[0]["lr"] == 0.5
    assert second.history[:, "epoch"] == [1, 2, 3]
    assert len(first.history) == 2
    assert first.optimizer_.state_dict()["state"][0]["step"] == step == 8
    assert second.optimizer_.state_dict()["state"][0]["step"] == 12


def test_go_on_from_another_optimizer(make_net, rows):
    first = make_net().fit(*rows)
    second = make_net(optimizer=torch.optim.SGD, optimizer__momentum=0.5).initialize()
    second.go_on_from(first)
    assert not second.optimizer_.state_dict()["state"]
    assert len(second.history) == 3


def test_submodules_are_set_to_training_once(make_net, rows):
    """And not before every step, so that a callback can keep some of them from it."""

    class Freeze(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.module_.train()
            net.module_.layers[1].eval()

    net = make_net(callbacks=[Freeze()]).fit(*rows)
    assert torch.equal(net.module_.layers[1].running_mean, torch.zeros(8))
    assert not net.module_.training


def test_epochs_leave_out_what_is_internal(make_net, rows):
    (epoch,) = make_net(max_epochs=1).fit(*rows).epochs
    assert {"epoch", "train_loss", "lr", "dur", "spread"} < set(epoch)
    assert not {"batches", "train_loss_best", "train_batch_count"} & set(epoch)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compile(make_net, rows):
    """Through torch's tracer, but not its code generator, which takes half a minute."""
    plain, compiled = make_net(), make_net(compile=True, compile__backend="eager")
    assert torch.equal(weights(compiled.fit(*rows)), weights(plain.fit(*rows)))
    assert isinstance(compiled.module_, torch._dynamo.OptimizedModule)
    assert not isinstance(compiled.criterion_, torch._dynamo.OptimizedModule)
    again = pickle.loads(pickle.dumps(compiled))
    assert (again.embed(rows[0]) == plain.embed(rows[0])).all()
    assert torch.equal(weights(again.partial_fit(*rows)), weights(plain.partial_fit(*rows)))


def test_lbfgs_which_asks_for_the_loss_many_times(make_net, rows):
    net = make_net(optimizer=torch.optim.LBFGS, max_epochs=1).fit(*rows)
    assert torch.isfinite(weights(net)).all()


def test_clone_and_pickle(make_net, rows):
    net = make_net(optimizer__betas=(0.8, 0.9))
    assert clone(net).get_params()["optimizer__betas"] == (0.8, 0.9)
    fitted = net.fit(*rows)
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.embed(rows[0]) == fitted.embed(rows[0])).all()
    assert len(again.history) == 3


@pytest.mark.gpu
def test_cuda_is_seeded_and_put_back(make_net, rows):
    before = torch.cuda.get_rng_state()
    net = make_net(device="cuda").fit(*rows)
    assert torch.equal(before, torch.cuda.get_rng_state())
    assert np.isfinite(net.embed(rows[0])).all()


def test_trainings_that_overlap_leave_all_as_it_was():
    """One begins within another, in another thread, and ends after it."""
    begun, ended = threading.Event(), threading.Event()

    def later():
        with isolated_rng(1, "cpu"), one_thread():
            begun.set()
            ended.wait()
        seen.append(torch.get_num_threads())

    seen = []
    torch.manual_seed(0)
    state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        other = threading.Thread(target=later)
        with isolated_rng(0, "cpu"), one_thread():
            other.start()
            begun.wait()
        assert torch.get_num_threads() == 3
        ended.set()
        other.join()
        assert seen == [3]
        assert torch.equal(torch.get_rng_state(), state)
        last = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        last.start()
        last.join()
        assert seen == [3, 3]
    finally:
        torch.set_num_threads(n_threads)
