import tracemalloc

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet._build import build_network
from sktriplet._input_layout import ImageLayout, TableLayout
from sktriplet._input_statistics import partial_fit_scaler
from sktriplet._preprocessor import Preprocessor
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import ContrastiveLoss, TripletLoss, TripletNCALoss
from sktriplet.networks import MLP, ConvNet
from sktriplet.training import TripletNet

TABLE, IMAGES = np.zeros((5, 4)), np.zeros((5, 16, 16, 2), np.uint8)


def build(embedder, X=TABLE, layout=None, scaler=None, seed=0, **kwargs):
    preprocessor = Preprocessor(
        input_shape=None, standardize=True, categorical_features=None, accepts_ids=False
    )
    preprocessor.layout = preprocessor.network_layout = layout or TableLayout(X.shape[1:])
    preprocessor.scaler = scaler
    return build_network(embedder, X, preprocessor, seed=seed, **kwargs)


def edges_of_bins(X, **kwargs):
    """Return the edges of the bins of each feature."""
    return build(TripletEmbedder(), X, **kwargs).backbone.encoding.bin_edges.numpy()


class TestBuildNetwork:
    def test_table(self):
        network = build(TripletEmbedder(3, hidden_layer_sizes=(5,)))
        assert isinstance(network.backbone, MLP)
        assert network.input_layout is None
        assert network(torch.randn(2, 4)).shape == (2, 3)

    def test_images(self):
        network = build(TripletEmbedder(3), IMAGES, ImageLayout((2, 16, 16)))
        assert isinstance(network.backbone, ConvNet)
        assert network(torch.from_numpy(IMAGES)).shape == (5, 3)

    @pytest.mark.parametrize(
        ("n_components", "n_members", "expected"),
        [(64, 4, 4), (64, 8, 8), (64, 3, 3), (31, 4, 3), (16, 4, 2), (15, 4, 1), (2, 4, 1)],
    )
    def test_n_members(self, n_components, n_members, expected):
        """Each member has at least eight components."""
        network = build(TripletEmbedder(n_components, n_members=n_members)).eval()
        assert network.n_members == expected
        assert network(torch.randn(2, 4)).shape == (2, n_components)

    def test_linear_map_has_no_members(self):
        network = build(TripletEmbedder(64, hidden_layer_sizes=(), normalize=False))
        assert network.n_members == 1
        X = torch.randn(2, 4)
        assert_allclose(network(2 * X).detach(), 2 * network(X).detach(), rtol=1e-4, atol=1e-5)

    def test_bins_are_quantiles(self):
        """A feature with few distinct values has fewer bins."""
        X = np.c_[np.arange(801.0) ** 2, np.arange(801) % 2, np.full(801, 3.0)]
        edges = edges_of_bins(X.astype(np.float32))
        assert_allclose(edges[0], (np.arange(9) * 100.0) ** 2)
        assert_allclose(edges[1], [0] + [1] * 8)
        assert_allclose(edges[2], [3] * 9)

    def test_bins_of_standardized_features(self):
        X = np.random.default_rng(0).normal(5, 2, size=(500, 3)).astype(np.float32)
        layout = TableLayout((3,))
        scaler = partial_fit_scaler(None, X, layout)
        edges = edges_of_bins(X, scaler=scaler)
        expected = (edges_of_bins(X) - scaler.mean_[:, None]) / scaler.scale_[:, None]
        assert_allclose(edges, expected, atol=1e-6)

    def test_bins_of_sparse_features(self):
        X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
        X[X < 0] = 0
        assert_array_equal(edges_of_bins(sparse.csr_array(X)), edges_of_bins(X))

    def test_bins_of_many_samples(self):
        """They are determined from a subsample."""
        X = np.random.default_rng(0).random((50_000, 1), dtype=np.float32)
        assert_allclose(edges_of_bins(X)[0], np.linspace(0, 1, 9), atol=0.02)

    @pytest.mark.parametrize(("n_features", "n_plain"), [(2_000, 2), (2_001, 4)])
    def test_wide_tables_are_not_encoded(self, n_features, n_plain):
        X = np.random.default_rng(0).random((20, n_features))
        backbone = build(TripletEmbedder(hidden_layer_sizes=(2,)), X).backbone
        assert backbone.n_plain == n_plain
        assert (backbone.encoded is None) == (n_plain == 4)
        assert backbone(torch.zeros(3, n_features)).shape == (3, 64)

    def test_start_keeps_bins(self):
        X = np.random.default_rng(0).random((50, 2))
        start = build(TripletEmbedder(), X)
        edges = edges_of_bins(X.round(), seed=1, start=start)
        assert_array_equal(edges, start.backbone.encoding.bin_edges)

    def test_bins_in_new_units(self):
        """Without standardization, edges of standardized features would be wrong."""
        X = np.random.default_rng(0).normal(50, 2, size=(50, 2)).astype(np.float32)
        scaler = partial_fit_scaler(None, X, TableLayout((2,)))
        start = build(TripletEmbedder(), X, scaler=scaler)
        assert_array_equal(edges_of_bins(X, start=start), edges_of_bins(X))

    def test_seed(self):
        def weights(seed):
            network = build(TripletEmbedder(3), IMAGES, ImageLayout((2, 16, 16)), seed=seed)
            return torch.cat([parameter.flatten() for parameter in network.parameters()])

        assert torch.equal(weights(0), weights(0))
        assert not torch.equal(weights(0), weights(1))

    def test_module_is_copied(self):
        module = torch.nn.Linear(4, 3)
        backbone = build(TripletEmbedder(module=module)).backbone
        assert backbone is not module
        assert torch.equal(backbone.weight, module.weight)

    def test_module_factory_arguments(self):
        calls = []

        def factory(input_shape, n_components):
            calls.append((input_shape, n_components))
            return torch.nn.Identity()

        build(TripletEmbedder(3, module=factory), IMAGES, ImageLayout((2, 8, 9)))
        assert calls == [((2, 8, 9), 3)]

    @pytest.mark.parametrize(
        ("name", "value"), [("hidden_layer_sizes", (8,)), ("n_members", 2)], ids=str
    )
    @pytest.mark.parametrize("network", ["ConvNet", "Linear"])
    def test_parameter_without_effect(self, name, value, network):
        parameters = {name: value}
        if network == "Linear":
            parameters["module"] = torch.nn.Linear(4, 64)
        X = IMAGES if network == "ConvNet" else TABLE
        layout = ImageLayout((2, 16, 16)) if network == "ConvNet" else None
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter.*{network}"):
            build(TripletEmbedder(**parameters), X, layout)

    def test_members_without_hidden_layers(self):
        with pytest.raises(InvalidParameterError, match="'n_members' parameter"):
            build(TripletEmbedder(hidden_layer_sizes=(), n_members=2))
        for n_members in (1, 4):  # One network, or the default.
            build(TripletEmbedder(hidden_layer_sizes=(), n_members=n_members))


def test_wide_sparse_table_stays_sparse():
    """Dense, it would take 200 MB."""
    rng = np.random.default_rng(0)
    X = sparse.random_array((5_000, 10_000), density=1e-3, format="csr", dtype="f", rng=rng)
    scaler = partial_fit_scaler(None, X, TableLayout((10_000,)))
    tracemalloc.start()
    build(TripletEmbedder(hidden_layer_sizes=(2,)), X, scaler=scaler)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_channels_are_standardized():
    images = np.random.default_rng(0).normal(3, 5, size=(20, 3, 8, 9)).astype(np.float32)
    layout = ImageLayout((3, 8, 9))
    scaler = partial_fit_scaler(None, images, layout)
    standardized = build(TripletEmbedder(), images, layout, scaler).scaler(torch.tensor(images))
    assert_allclose(standardized.mean(dim=(0, 2, 3)), np.zeros(3), atol=1e-5)


class TestNet:
    """The `net` parameter of an embedder."""

    def test_settings_are_used(self, make_embedder, blobs):
        template = TripletNet(optimizer=torch.optim.SGD, optimizer__momentum=0.5)
        net = make_embedder(net=template).fit(*blobs).net_
        assert isinstance(net.optimizer_, torch.optim.SGD)
        assert net.optimizer_.param_groups[0]["momentum"] == 0.5
        assert net is not template
        assert not template.initialized_

    def test_default(self, make_embedder, blobs, weights):
        explicit = make_embedder(net=TripletNet()).fit(*blobs)
        assert isinstance(explicit.net_.criterion_, TripletNCALoss)
        assert torch.equal(weights(explicit), weights(make_embedder().fit(*blobs)))

    def test_callbacks_are_cloned(self, make_embedder, blobs):
        class Count(Callback):
            n_epochs = 0

            def on_epoch_end(self, net, **kwargs):
                self.n_epochs += 1

        count = Count()
        net = make_embedder(max_epochs=3, net=TripletNet(callbacks=[count])).fit(*blobs).net_
        assert count.n_epochs == 0
        assert dict(net.callbacks_)["Count"].n_epochs == 3

    def test_early_stopping_callback(self, make_embedder, blobs):
        stop = EarlyStopping(monitor="train_loss", patience=1, threshold=1e9, sink=lambda _: None)
        net = make_embedder(max_epochs=9, net=TripletNet(callbacks=[stop])).fit(*blobs).net_
        assert len(net.history) < 9

    def test_callbacks_disabled(self, make_embedder, blobs):
        net = make_embedder(net=TripletNet(callbacks="disable")).fit(*blobs).net_
        assert net.callbacks_ == []

    def test_subclass(self, make_embedder, blobs):
        class Net(TripletNet):
            pass

        net = make_embedder(max_epochs=1, net=Net(min_batches=3)).fit(*blobs).net_
        assert isinstance(net, Net)
        assert len(net.history[0, "batches"]) == 3

    def test_device_none(self, make_embedder, blobs):
        """skorch's mixin for accelerate has device=None."""
        net = make_embedder(net=TripletNet(device=None), device="cpu").fit(*blobs).net_
        assert net.device == "cpu"

    @pytest.mark.parametrize(
        ("setting", "ours"),
        [
            ({"lr": 0.5}, "lr"),
            ({"optimizer__lr": 0.5}, "lr"),
            ({"max_epochs": 3}, "max_epochs"),
            ({"device": "cuda"}, "device"),
            ({"module": MLP}, "module"),
            ({"batch_size": 7}, "batch_size"),
            ({"random_state": 1}, "random_state"),
            ({"warm_start": True}, "warm_start"),
            ({"criterion__margin": 0.5}, "margin"),
            ({"criterion__mining": "semi_hard"}, "mining"),
            ({"criterion__loss": "hinge"}, "loss"),
            ({"criterion__nca_weight": 1.0}, "nca_weight"),
            ({"optimizer__weight_decay": 0.5}, "weight_decay"),
        ],
    )
    def test_reserved_parameter(self, make_embedder, blobs, setting, ours):
        (theirs,) = setting
        embedder = make_embedder(net=TripletNet(**setting))
        with pytest.raises(InvalidParameterError, match=f"'net' parameter.*{theirs}=.*{ours}="):
            embedder.fit(*blobs)

    def test_criterion_instance(self, make_embedder, blobs):
        with pytest.raises(InvalidParameterError, match=r"'net' parameter.*TripletLoss"):
            make_embedder(net=TripletNet(criterion=TripletLoss(0.5))).fit(*blobs)


class TestCustomCriterion:
    def test_defaults_are_kept(self, make_embedder, blobs):
        """An embedder's parameter at its default does not replace the criterion's default."""
        net = TripletNet(criterion=ContrastiveLoss, criterion__neg_margin=0.7)
        criterion = make_embedder(net=net).fit(*blobs).net_.criterion_
        assert criterion.metric == ContrastiveLoss().metric
        assert criterion.neg_margin == 0.7

    def test_own_parameters_can_be_set(self, make_embedder, blobs):
        net = TripletNet(criterion=ContrastiveLoss, criterion__metric="sqeuclidean")
        criterion = make_embedder(net=net).fit(*blobs).net_.criterion_
        assert criterion.metric == "sqeuclidean"

    def test_changed_parameter_is_passed(self, make_embedder, blobs):
        net = TripletNet(criterion=ContrastiveLoss)
        assert (
            make_embedder(net=net, metric="cosine").fit(*blobs).net_.criterion_.metric == "cosine"
        )

    def test_triplet_loss(self, make_embedder, blobs):
        """It gets all of the embedder's parameters that it has."""
        net = TripletNet(criterion=TripletLoss)
        criterion = make_embedder(net=net, mining="hard", margin=0.25).fit(*blobs).net_.criterion_
        assert type(criterion) is TripletLoss
        assert (criterion.mining, criterion.margin) == ("hard", 0.25)

    def test_inherited_parameters(self, make_embedder, blobs):
        class Loss(TripletNCALoss):
            def __init__(self, extra=0, **kwargs):
                super().__init__(**kwargs)
                self.extra = extra

        net = TripletNet(criterion=Loss, criterion__extra=1)
        criterion = (
            make_embedder(net=net, mining="hard", nca_weight=1.5).fit(*blobs).net_.criterion_
        )
        assert (criterion.extra, criterion.mining, criterion.nca_weight) == (1, "hard", 1.5)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("margin", 0.9), ("mining", "hard"), ("loss", "soft_margin"), ("nca_weight", 3.0)],
    )
    def test_parameter_without_effect(self, make_embedder, blobs, name, value):
        embedder = make_embedder(net=TripletNet(criterion=ContrastiveLoss), **{name: value})
        match = f"'{name}' parameter of TripletEmbedder.*ContrastiveLoss.*{name}={value!r}"
        with pytest.raises(InvalidParameterError, match=match):
            embedder.fit(*blobs)

    def test_optimizer_function(self, make_embedder, blobs):
        """It may pass keyword arguments on."""

        def make_sgd(params, **kwargs):
            return torch.optim.SGD(params, **kwargs)

        net = TripletNet(optimizer=make_sgd)
        fitted = make_embedder(net=net, weight_decay=0.25).fit(*blobs).net_
        assert isinstance(fitted.optimizer_, torch.optim.SGD)
        assert fitted.optimizer_.param_groups[0]["weight_decay"] == 0.25

    def test_optimizer_without_weight_decay(self, make_embedder, blobs):
        embedder = make_embedder(max_epochs=1, net=TripletNet(optimizer=torch.optim.LBFGS))
        assert np.isfinite(embedder.fit_transform(*blobs)).all()
        with pytest.raises(InvalidParameterError, match=r"'weight_decay' parameter.*LBFGS.*0\.5"):
            clone(embedder).set_params(weight_decay=0.5).fit(*blobs)


class TestSchedule:
    @pytest.fixture
    def images(self):
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (20, 8, 8), dtype=np.uint8), np.repeat([0, 1], 10)

    @pytest.mark.parametrize(
        ("parameters", "lr", "n_batches"),
        [
            ({}, 5e-3, 45),
            ({"lr": 1e-3}, 1e-3, 45),
            ({"net": TripletNet(min_batches=3)}, 5e-3, 3),
            ({"module": ConvNet}, 5e-3, 45),
            ({"module": lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(64, n))}, 2e-3, 10),
        ],
    )
    def test_images(self, images, parameters, lr, n_batches):
        embedder = TripletEmbedder(max_epochs=1, random_state=0, **parameters).fit(*images)
        assert embedder.net_.lr == lr
        assert embedder.history_[0]["lr"] == lr
        assert embedder.net_.history[0]["train_batch_count"] == n_batches

    def test_tables(self, make_embedder, blobs):
        embedder = make_embedder(lr="auto").fit(*blobs)
        assert embedder.net_.lr == 2e-3
        assert embedder.net_.history[0]["train_batch_count"] == 10

    def test_chunks(self, images):
        embedder = TripletEmbedder(random_state=0).partial_fit(*images)
        assert embedder.net_.lr == 5e-3
        assert embedder.net_.history[0]["train_batch_count"] == 10
