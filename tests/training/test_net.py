import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Freezer
from skorch.dataset import ValidSplit
from torch.utils.data import DataLoader, Dataset, IterableDataset, random_split

from sktriplet.exceptions import CollapseWarning, InvalidParameterError
from sktriplet.losses import ContrastiveLoss, TripletLoss, TripletNCALoss
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.mining import semi_hard
from sktriplet.networks import MLP
from sktriplet.training import TripletNet
from sktriplet.training._data import ArrayDataset

STATISTICS = {"triplet_fraction", "active_fraction", "d_ap", "d_an", "spread"}


def mine_nothing(distances, labels, *, margin, generator):
    return labels[:0], labels[:0], labels[:0]


class Scale(torch.nn.Module):
    """The identity, with a weight to train."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, X):
        return X * self.scale


class Shrinking(Scale):
    """Moves all samples closer to zero with every batch."""

    def __init__(self):
        super().__init__()
        self.n_batches = 0

    def forward(self, X):
        self.n_batches += self.training
        return super().forward(X) * 0.1**self.n_batches


class TwoParts(torch.nn.Module):
    """Embeddings of two parts, with three and two components by default."""

    def __init__(self, n_components=5):
        super().__init__()
        self.backbone = MLP((5,), n_components, (8,), generator=torch.Generator().manual_seed(0))

    def forward(self, X):
        return self.backbone(X)

    def split_embeddings(self, embeddings):
        return embeddings.tensor_split(2, dim=1)


class TestTraining:
    def test_improves_retrieval(self, make_net, rng):
        X = rng.normal(size=(200, 5)).astype(np.float32)
        y = (X[:, 0] > 0).astype(int)
        net = make_net(max_epochs=20, lr=0.01)
        before = mean_average_precision_at_r_score(net.initialize().embed(X), y)
        after = mean_average_precision_at_r_score(net.partial_fit(X, y).embed(X), y)
        assert after > before + 0.2

    def test_defaults(self, make_net):
        net = make_net().initialize()
        assert isinstance(net.criterion_, TripletNCALoss)
        assert (net.criterion_.margin, net.criterion_.reduction) == (0.5, "mean")
        assert net.optimizer_.param_groups[0]["fused"] is True
        net = make_net(criterion__reduction="sum", optimizer__fused=False).initialize()
        assert net.criterion_.reduction == "sum"
        assert net.optimizer_.param_groups[0]["fused"] is False

    def test_lbfgs(self, make_net, samples, weights):
        """It evaluates the loss several times in each step."""
        net = make_net(optimizer=torch.optim.LBFGS, max_epochs=1).fit(*samples)
        assert torch.isfinite(weights(net)).all()
        assert len(net.history[0]["batches"]) == 4
        assert set(net.history[-1]) >= STATISTICS

    @pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
    def test_compile(self, make_net, samples, weights):
        """With torch's tracer, but without its code generator, which takes half a minute."""
        X, _ = samples
        plain, compiled = make_net(), make_net(compile=True, compile__backend="eager")
        assert torch.equal(weights(compiled.fit(*samples)), weights(plain.fit(*samples)))
        assert isinstance(compiled.module_, torch._dynamo.OptimizedModule)
        assert not isinstance(compiled.criterion_, torch._dynamo.OptimizedModule)
        loaded = pickle.loads(pickle.dumps(compiled))
        assert (loaded.embed(X) == plain.embed(X)).all()
        loaded.partial_fit(*samples)
        assert torch.equal(weights(loaded), weights(plain.partial_fit(*samples)))

    def test_clone_and_pickle(self, make_net, samples):
        X, _ = samples
        net = make_net(optimizer__betas=(0.8, 0.9))
        assert clone(net).get_params()["optimizer__betas"] == (0.8, 0.9)
        fitted = net.fit(*samples)
        loaded = pickle.loads(pickle.dumps(fitted))
        assert (loaded.embed(X) == fitted.embed(X)).all()
        assert len(loaded.history) == 3

    def test_partial_fit_continues(self, make_net, samples, weights):
        settings = {"callbacks__lr_scheduler": None}
        net = make_net(max_epochs=2, **settings).fit(*samples).partial_fit(*samples)
        at_once = make_net(max_epochs=4, **settings).fit(*samples)
        assert torch.allclose(weights(net), weights(at_once))

    def test_callback_can_freeze_submodule(self, make_net, samples, spy):
        """Training mode is set once per epoch, not before each step."""

        def freeze(net, **kwargs):
            net.module_.train()
            net.module_.layers[1].eval()

        net = make_net(callbacks=[spy(on_epoch_begin=freeze)]).fit(*samples)
        assert torch.equal(net.module_.layers[1].running_mean, torch.zeros(8))
        assert not net.module_.training


class TestHistory:
    def test_batches(self, make_net, samples):
        net = make_net().fit(*samples)
        assert len(net.history) == 3
        assert net.history[:, "train_batch_count"] == [4, 4, 4]
        assert net.history[0, "batches", :, "train_batch_size"] == [60] * 4

    def test_statistics_are_means_over_batches(self, make_net, samples):
        epoch = make_net(max_epochs=1).fit(*samples).history[-1]
        for name in STATISTICS:
            values = [batch[name] for batch in epoch["batches"]]
            assert len(values) == 4
            assert epoch[name] == pytest.approx(np.mean(values))
        assert epoch["d_ap"] < epoch["d_an"], "semi-hard by definition"

    def test_fit_loop_alone(self, make_net, samples):
        net = make_net(callbacks__lr_scheduler=None).initialize()
        net.fit_loop(*samples, epochs=1)
        assert len(net.history) == 1

    def test_statistics_without_triplets(self, make_net, samples):
        net = make_net(max_epochs=1, criterion=TripletLoss, criterion__mining=mine_nothing)
        epoch = net.fit(*samples).history[-1]
        assert np.isnan(epoch["d_ap"])
        assert epoch["triplet_fraction"] == 0
        assert epoch["train_loss"] == 0

    @pytest.mark.parametrize("n_components", [4, 5])
    def test_criterion_is_evaluated_on_each_part(self, make_net, samples, n_components):
        """At once if the parts have the same width, and the criterion accepts a stack."""

        class Subclass(TripletLoss):
            def forward(self, embeddings, labels):
                assert embeddings.ndim == 2
                return super().forward(embeddings, labels)

        at_once, one_by_one = (
            make_net(module=TwoParts(n_components), criterion=criterion).fit(*samples)
            for criterion in (TripletLoss, Subclass)
        )
        for name in ("train_loss", *STATISTICS):
            expected = one_by_one.history[:, name]
            assert at_once.history[:, name] == pytest.approx(expected, rel=1e-4), name

    def test_criterion_without_statistics(self, make_net, samples):
        net = make_net(criterion=torch.nn.CrossEntropyLoss).fit(*samples)
        assert np.isfinite(net.history[:, "train_loss"]).all()
        assert not STATISTICS & set(net.history[-1])

    def test_criterion_with_other_statistics(self, make_net, samples):
        class Loss(torch.nn.Module):
            def forward(self, embeddings, labels):
                self.statistics = {"norm": embeddings.detach().norm()}
                return embeddings.square().mean()

        epoch = make_net(criterion=Loss).fit(*samples).history[-1]
        assert epoch["norm"] == pytest.approx(
            np.mean([batch["norm"] for batch in epoch["batches"]])
        )

    def test_contrastive_loss(self, make_net, samples):
        net = make_net(criterion=ContrastiveLoss, criterion__neg_margin=2.0).fit(*samples)
        assert net.criterion_.neg_margin == 2.0
        assert "spread" in net.history[-1]

    def test_validation_batches_have_no_statistics(self, make_net, samples):
        batches = make_net(train_split=ValidSplit(3)).fit(*samples).history[0]["batches"]
        assert ["spread" in batch for batch in batches] == [True] * 4 + [False]

    def test_epochs_omit_internal_columns(self, make_net, samples):
        (epoch,) = make_net(max_epochs=1).fit(*samples).epochs
        assert {"epoch", "train_loss", "lr", "dur"} | STATISTICS == set(epoch)


class TestSplit:
    """The criterion is applied to each part that the module splits the embeddings into."""

    def test_loss_is_mean_over_parts(self, make_net, samples):
        X, y = map(torch.as_tensor, samples)
        net = make_net(module=TwoParts(), criterion__margin=1.0).initialize()
        embeddings = net.module_(X)
        parts = embeddings[:, :3], embeddings[:, 3:]
        expected = sum(net.criterion_(part, y) for part in parts) / 2
        assert net.get_loss(embeddings, y).item() == pytest.approx(expected.item(), rel=1e-5)

    def test_statistics_are_means_over_parts(self, make_net, samples):
        parts = []

        class Recording(TripletLoss):
            def forward(self, embeddings, labels):
                loss = super().forward(embeddings, labels)
                parts.append((embeddings.shape[1], self.statistics["spread"].item()))
                return loss

        net = make_net(module=TwoParts(), criterion=Recording, max_epochs=1).fit(*samples)
        assert [width for width, _ in parts] == [3, 2] * 4
        spreads = np.reshape([spread for _, spread in parts], (4, 2)).mean(axis=1)
        assert net.history[0, "batches", :, "spread"] == pytest.approx(spreads, rel=1e-5)
        assert net.history[0, "spread"] == pytest.approx(spreads.mean(), rel=1e-5)

    def test_part_without_triplets(self, make_net, samples):
        """It does not contribute to the means of distances."""
        calls = []

        def every_second_time(distances, labels, *, margin, generator):
            calls.append(margin)
            if len(calls) % 2:
                return labels[:0], labels[:0], labels[:0]
            return semi_hard(distances, labels, margin=margin)

        net = make_net(module=TwoParts(), criterion__mining=every_second_time, max_epochs=1)
        net.fit(*samples)
        assert np.isfinite(net.history[0, "d_ap"])
        assert 0 < net.history[0, "triplet_fraction"] <= 0.5


class TestCollapseWarning:
    def test_collapse(self, make_net, samples):
        net = make_net(module=Shrinking())
        with pytest.warns(CollapseWarning, match="spread"):
            net.fit(*samples)

    def test_separated_classes(self, make_net, samples):
        """No triplets are left to mine, but the classes are far apart."""
        X, y = np.eye(3, dtype=np.float32)[samples[1]], samples[1]
        net = make_net(module=Scale(), criterion=TripletLoss).fit(X, y)
        assert net.history[-1, "triplet_fraction"] == 0
        assert net.history[-1, "spread"] > 0.5

    def test_history_without_statistics(self, make_net, samples):
        """The epochs of an earlier criterion had none."""
        settings = {"module": Scale(), "max_epochs": 1}
        first = make_net(criterion=torch.nn.CrossEntropyLoss, **settings).fit(*samples)
        second = make_net(**settings).initialize()
        second.resume_from(first)
        second.partial_fit(*samples)
        assert ["spread" in epoch for epoch in second.epochs] == [False, True]

    def test_batch_hard_stuck_at_margin(self, make_net, samples):
        """The loss equals the margin, and the spread is small but not zero."""

        class Contracting(Scale):
            def forward(self, X):
                is_first = not hasattr(self, "is_contracted") and self.training
                self.is_contracted = True
                return super().forward(X) * (1.0 if is_first else 0.04)

        criterion = {"criterion": TripletLoss, "criterion__mining": "hard"}
        net = make_net(module=Contracting(), **criterion, criterion__margin=1e3, max_epochs=2)
        with pytest.warns(CollapseWarning, match="spread"):
            net.fit(*samples)


class TestEmbed:
    def test_matches_forward_in_evaluation_mode(self, make_net, samples):
        X, _ = samples
        net = make_net().fit(*samples)
        net.module_.train()
        embedded = net.embed(X)
        assert net.module_.training
        with torch.no_grad():
            expected = net.module_.eval()(torch.from_numpy(X))
        np.testing.assert_allclose(embedded, expected, rtol=1e-6)

    @pytest.mark.parametrize("chunk_size", [1, 7, 60, 1000])
    def test_chunk_size(self, make_net, samples, chunk_size):
        X, _ = samples
        net = make_net().initialize()
        np.testing.assert_allclose(net.embed(X, chunk_size), net.embed(X), rtol=1e-5)

    def test_default_chunk_size(self, make_net):
        """Chunks of large samples are smaller."""
        sizes = []

        class Recording(Scale):
            def forward(self, X):
                sizes.append(len(X))
                return super().forward(X)[:, :2]

        net = make_net(module=Recording()).initialize()
        assert net.embed(np.zeros((100, 100_000), np.float32)).shape == (100, 2)
        assert max(sizes) < 100
        assert sum(sizes) == 100
        assert net.embed(np.zeros((500, 2), np.float32)).shape == (500, 2)
        assert sizes[-1] == 500

    def test_bfloat16_output(self, make_net, samples):
        class Half(Scale):
            def forward(self, X):
                return super().forward(X).bfloat16()

        embedded = make_net(module=Half()).initialize().embed(samples[0])
        assert embedded.dtype == np.float32
        np.testing.assert_allclose(embedded, samples[0], rtol=0.01)


class TestIterators:
    def test_data_loader(self, make_net, samples):
        net = make_net(iterator_train=DataLoader, iterator_train__shuffle=True, batch_size=20)
        assert net.fit(*samples).history[:, "train_batch_count"] == [3, 3, 3]

    def test_iterable_dataset(self, make_net, samples):
        """Its length is unknown."""

        class Stream(IterableDataset):
            def __iter__(self):
                return zip(*map(torch.from_numpy, samples), strict=True)

        net = make_net(iterator_train=DataLoader, callbacks__lr_scheduler=None, batch_size=60)
        assert net.fit(Stream(), None).history[:, "train_batch_count"] == [1, 1, 1]

    @pytest.mark.parametrize("iterator", [None, DataLoader])
    def test_train_split(self, make_net, samples, iterator):
        iterators = {"iterator_train": iterator, "iterator_valid": iterator} if iterator else {}
        net = make_net(train_split=ValidSplit(3, stratified=True), **iterators).fit(*samples)
        assert np.isfinite(net.history[:, "valid_loss"]).all()
        assert net.history[0, "batches", 0, "train_batch_size"] == 40


class TestValidation:
    @pytest.fixture
    def sorted_samples(self, samples):
        order = np.argsort(samples[1], kind="stable")
        return samples[0][order], samples[1][order]

    def test_batches_are_balanced(self, make_net, sorted_samples):
        """Consecutive samples of one class form no triplets and have zero loss."""
        split = ValidSplit(3, stratified=True)
        net = make_net(train_split=split, batch_size=8, lr=1e-6).fit(*sorted_samples)
        losses = net.history[:, "valid_loss"]
        assert min(losses) > 0
        # The same batches in all epochs.
        assert losses == pytest.approx(losses[:1] * len(losses), rel=0.2)

    def test_single_class(self, make_net, sorted_samples):
        with pytest.warns(UserWarning, match=r"cannot be balanced.*stratified=True"):
            make_net(train_split=ValidSplit(3)).fit(*sorted_samples)

    def test_random_split(self, make_net, samples):
        """Its subsets have lists of indices."""

        def split(dataset, y=None, **kwargs):
            return random_split(dataset, [40, 20], torch.Generator().manual_seed(0))

        net = make_net(train_split=split).fit(*samples)
        assert np.isfinite(net.history[:, "valid_loss"]).all()

    def test_interrupted(self, make_net, samples, spy):
        def interrupt(net, training, **kwargs):
            if len(net.history) == 2 and not training:
                raise KeyboardInterrupt

        net = make_net(train_split=ValidSplit(3), callbacks=[spy(on_batch_begin=interrupt)])
        with pytest.warns(UserWarning, match="interrupted after 1 of 3"):
            net.fit(*samples)
        assert len(net.history) == 1

    def test_stratified_split_of_dataset(self, make_net, sorted_samples):
        dataset = ArrayDataset(*sorted_samples)
        net = make_net(train_split=ValidSplit(3, stratified=True)).fit(dataset)
        assert net.history[-1, "valid_loss"] > 0

    def test_net_keeps_no_data(self, make_net, sorted_samples):
        net = make_net(train_split=ValidSplit(3, stratified=True)).fit(*sorted_samples)
        assert not any(isinstance(value, Dataset) for value in vars(net).values())


class TestFrozen:
    @pytest.fixture
    def module(self):
        return MLP((5,), 3, (8,), generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize("by_callback", [False, True])
    def test_batch_statistics_are_kept(self, make_net, samples, module, by_callback):
        callbacks = [Freezer("layers.*")] if by_callback else []
        if not by_callback:
            module.layers.requires_grad_(False)
        settings = {"callbacks": callbacks, "train_split": ValidSplit(3)}
        net = make_net(module=module, **settings).fit(*samples)
        assert torch.equal(net.module_.layers[1].running_mean, torch.zeros(8))
        assert net.module_.head.weight.requires_grad

    def test_embedding_between_batches(self, make_net, samples, module, spy):
        module.layers.requires_grad_(False)
        X = samples[0]
        net = make_net(module=module, callbacks=[spy(on_batch_end=lambda net, **_: net.embed(X))])
        net.fit(*samples)
        assert torch.equal(net.module_.layers[1].running_mean, torch.zeros(8))


class TestPatterns:
    @pytest.mark.parametrize(
        "parameters",
        [
            {"callbacks": [Freezer("0.*")]},
            {"callbacks": [Freezer(["layers.*", lambda name: name == "0"])]},
            {"optimizer__param_groups": [("head.*", {"lr": 1.0}), ("0.*", {"lr": 1.0})]},
        ],
    )
    def test_no_match(self, make_net, samples, parameters):
        net = make_net(**parameters)
        with pytest.raises(InvalidParameterError, match=r"pattern .*layers\.0\.weight"):
            net.fit(*samples)

    def test_shadowed(self, make_net, samples):
        """A parameter belongs to the first group that matches."""
        groups = [("*", {"lr": 1e-4}), ("head.*", {"lr": 1e-2})]
        with pytest.raises(InvalidParameterError, match=r"pattern 'head\.\*'"):
            make_net(optimizer__param_groups=groups).fit(*samples)

    def test_match(self, make_net, samples):
        net = make_net(
            callbacks=[Freezer("layers.0.*")], optimizer__param_groups=[("head.*", {"lr": 1e-4})]
        )
        assert not net.fit(*samples).module_.layers[0].weight.requires_grad


class TestInitialize:
    def test_same_random_state(self, make_net):
        class Loss(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.proxies = torch.nn.Parameter(torch.randn(3, 3))

        nets = [make_net(criterion=Loss) for _ in range(2)]
        state = torch.get_rng_state()
        nets = [net.initialize() for net in nets]
        assert torch.equal(*(net.criterion_.proxies for net in nets))
        assert torch.equal(torch.get_rng_state(), state)


class TestSubclasses:
    """What skorch supports."""

    def test_second_module_is_compiled(self, make_net, monkeypatch):
        compiled = []
        monkeypatch.setattr(torch, "compile", lambda module, **_: compiled.append(module) or module)

        class Net(TripletNet):
            def initialize_module(self):
                super().initialize_module()
                self.decoder_ = Scale()
                return self

        net = Net(**(make_net().get_params(deep=False) | {"compile": True})).initialize()
        assert compiled == [net.module_, net.decoder_]

    def test_get_loss(self, make_net, samples):
        class Net(TripletNet):
            def get_loss(self, y_pred, y_true, *args, **kwargs):
                return y_pred.square().mean()

        net = Net(**make_net().get_params(deep=False)).fit(*samples)
        assert np.isfinite(net.history[:, "train_loss"]).all()

    def test_reduction_none(self, make_net, samples):
        class Loss(torch.nn.Module):
            def forward(self, embeddings, labels):
                return embeddings.square().sum(dim=1)

        class Net(TripletNet):
            def get_loss(self, *args, **kwargs):
                losses = super().get_loss(*args, **kwargs)
                assert losses.ndim == 1
                return losses.mean()

        params = make_net(criterion=Loss).get_params(deep=False)
        assert np.isfinite(Net(**params).fit(*samples).history[:, "train_loss"]).all()

    def test_train_step_single(self, make_net, samples):
        class Net(TripletNet):
            def train_step_single(self, batch, **fit_params):
                self._set_training(True)
                y_pred = self.infer(batch[0])
                loss = y_pred.square().mean()
                loss.backward()
                return {"loss": loss, "y_pred": y_pred}

        net = Net(**make_net().get_params(deep=False)).fit(*samples)
        assert np.isfinite(net.history[:, "train_loss"]).all()

    def test_module_of_another_name(self, make_net, samples):
        class Net(TripletNet):
            def initialize_module(self):
                self.encoder_ = self.initialized_instance(self.module, {})
                return self

            def infer(self, x, **fit_params):
                return self.encoder_(x)

        net = Net(**make_net().get_params(deep=False)).fit(*samples)
        assert not net.encoder_.training
        assert net.embed(samples[0]).shape == (60, 3)


class TestResumeFrom:
    def test_continues_history_and_optimizer(self, make_net, samples):
        first = make_net(max_epochs=2, callbacks__lr_scheduler=None).fit(*samples)
        second = make_net(max_epochs=1, lr=0.5, callbacks__lr_scheduler=None).initialize()
        second.module_.load_state_dict(first.module_.state_dict())
        second.resume_from(first)
        step = first.optimizer_.state_dict()["state"][0]["step"].clone()
        second.partial_fit(*samples)
        assert second.optimizer_.param_groups[0]["lr"] == 0.5
        assert second.history[:, "epoch"] == [1, 2, 3]
        assert len(first.history) == 2
        assert first.optimizer_.state_dict()["state"][0]["step"] == step == 8
        assert second.optimizer_.state_dict()["state"][0]["step"] == 12

    def test_other_optimizer(self, make_net, samples):
        first = make_net().fit(*samples)
        second = make_net(optimizer=torch.optim.SGD, optimizer__momentum=0.5).initialize()
        second.resume_from(first)
        assert not second.optimizer_.state_dict()["state"]
        assert len(second.history) == 3
