import copy
import tracemalloc

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping

from sktriplet import TripletEmbedder
from sktriplet._build import build_network, merged_moments
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import TripletLoss
from sktriplet.networks import MLP, ConvNet
from sktriplet.networks._embedding_network import ChannelsFirst
from sktriplet.training import TripletNet

TABLE, IMAGES = np.zeros((5, 4)), np.zeros((5, 16, 16, 2), np.uint8)


def weights(embedder):
    return torch.nn.utils.parameters_to_vector(embedder.net_.module_.parameters()).detach()


class TestNetwork:
    def test_tables_get_an_mlp(self):
        embedder = TripletEmbedder(3, hidden_layer_sizes=(5,))
        network = build_network(embedder, TABLE, (4,), None, seed=0)
        assert isinstance(network.body, MLP)
        assert network.layout is None
        assert network(torch.randn(2, 4)).shape == (2, 3)

    @pytest.mark.parametrize(
        ("n_components", "n_members", "expected"),
        [(64, 4, 4), (64, 8, 8), (64, 3, 3), (31, 4, 3), (16, 4, 2), (15, 4, 1), (2, 4, 1)],
    )
    def test_members(self, n_components, n_members, expected):
        """As many as asked for, so long as each has eight components."""
        embedder = TripletEmbedder(n_components, n_members=n_members)
        network = build_network(embedder, TABLE, (4,), None, seed=0).eval()
        assert network.n_members == expected
        assert network(torch.randn(2, 4)).shape == (2, n_components)

    def test_a_linear_map_has_no_members(self):
        embedder = TripletEmbedder(64, hidden_layer_sizes=(), normalize=False)
        network = build_network(embedder, TABLE, (4,), None, seed=0)
        assert network.n_members == 1
        X = torch.randn(2, 4)
        assert_allclose(network(2 * X).detach(), 2 * network(X).detach(), rtol=1e-4, atol=1e-5)

    def test_continuous_columns_have_waves(self):
        rng = np.random.default_rng(0)
        rows = np.c_[
            rng.random(50_000), rng.integers(10, size=50_000), rng.integers(11, size=50_000)
        ]
        body = build_network(TripletEmbedder(), np.sort(rows, axis=0), (3,), None, seed=0).body
        assert body.periodic[0].is_continuous.flatten().tolist() == [1, 0, 1]

    @pytest.mark.parametrize("stored_as_zero", [None, 3])
    def test_continuous_columns_of_sparse_rows(self, stored_as_zero):
        """Zero is a value too, once, whether it is stored or not."""
        rows = np.zeros((30, 12), np.float32)
        for column, n_values in enumerate([1, 8, 9, 10, 11]):
            values = np.repeat(np.arange(n_values) + 1, 2)
            rows[: len(values), column] = rows[: len(values), column + 5] = values
        rows[:, 5:10] *= -1
        rows[:, 10] = np.arange(30) % 10 + 0.5
        rows[:, 11] = np.arange(30) % 11 + 0.5
        matrix = sparse.csr_array(rows)
        matrix.data[matrix.data == stored_as_zero] = -0.0
        expected = [len(set(column)) > 10 for column in matrix.toarray().T.tolist()]
        assert 0 < sum(expected) < 12
        body = build_network(TripletEmbedder(), matrix, (12,), None, seed=0).body
        assert body.periodic[0].is_continuous.flatten().tolist() == expected

    @pytest.mark.parametrize(("n_columns", "n_plain"), [(2_000, 2), (2_001, 4)])
    def test_wide_tables_have_no_waves(self, n_columns, n_plain):
        rows = np.random.default_rng(0).random((20, n_columns))
        embedder = TripletEmbedder(hidden_layer_sizes=(2,))
        body = build_network(embedder, rows, (n_columns,), None, seed=0).body
        assert body.n_plain == n_plain
        assert (body.periodic is None) == (n_plain == 4)
        assert body(torch.zeros(3, n_columns)).shape == (3, 64)

    def test_which_columns_have_waves_does_not_change_in_training(self):
        embedder, rows = TripletEmbedder(), np.random.default_rng(0).random((50, 2))
        start = build_network(embedder, rows, (2,), None, seed=0).body
        body = build_network(embedder, rows.round(), (2,), None, seed=1, start=start).body
        assert body.periodic[0].is_continuous.flatten().tolist() == [1, 1]

    def test_images_get_a_conv_net(self):
        network = build_network(TripletEmbedder(3), IMAGES, (2, 16, 16), None, seed=0)
        assert isinstance(network.body, ConvNet)
        assert network(torch.from_numpy(IMAGES)).shape == (5, 3)

    def test_the_seed_decides(self):
        def weights(seed):
            network = build_network(TripletEmbedder(3), IMAGES, (1, 16, 16), None, seed=seed)
            return torch.cat([parameter.flatten() for parameter in network.parameters()])

        assert torch.equal(weights(0), weights(0))
        assert not torch.equal(weights(0), weights(1))

    def test_a_module_is_copied(self):
        module = torch.nn.Linear(4, 3)
        body = build_network(TripletEmbedder(module=module), TABLE, (4,), None, seed=0).body
        assert body is not module
        assert torch.equal(body.weight, module.weight)

    def test_a_factory_is_called(self):
        calls = []

        def factory(input_shape, n_components):
            calls.append((input_shape, n_components))
            return torch.nn.Identity()

        build_network(TripletEmbedder(3, module=factory), IMAGES, (2, 8, 9), None, seed=0)
        assert calls == [((2, 8, 9), 3)]


class TestMoments:
    def test_tables(self):
        rows = np.random.default_rng(0).normal(50, 7, (1_200_001, 2)).astype(np.float32)
        in_parts = None
        for part in (rows[:70_000], rows[70_000:]):
            in_parts = merged_moments(in_parts, part, (2,))
        at_once = StandardScaler().fit(rows)
        assert_allclose(in_parts.mean_, at_once.mean_, rtol=1e-9)
        assert_allclose(in_parts.scale_, at_once.scale_, rtol=1e-6)
        assert in_parts.n_samples_seen_ == 1_200_001

    @pytest.mark.parametrize("kinds", ["ss", "sd", "ds"])
    def test_sparse_tables(self, kinds):
        """As exact as those of dense ones."""
        rng = np.random.default_rng(0)
        rows = rng.random((300, 7)) * (rng.random((300, 7)) < 0.3)
        rows = np.c_[rows, 1e5 + rng.random(300), np.zeros(300), np.ones(300)].astype(np.float32)
        dense = ours = None
        for part, kind in zip(np.split(rows, 2), kinds, strict=True):
            before = copy.deepcopy(ours)
            known = ours
            ours = merged_moments(known, sparse.csr_matrix(part) if kind == "s" else part, (10,))
            dense = merged_moments(dense, part, (10,))
            if known is not None:
                assert_allclose(known.mean_, before.mean_, rtol=0, err_msg="is left as it is")
        assert_allclose(ours.mean_, rows.mean(axis=0, dtype=float), rtol=1e-13)
        assert_allclose(ours.mean_, dense.mean_, rtol=1e-13)
        assert_allclose(ours.scale_, dense.scale_, rtol=1e-9)
        assert_allclose(ours.scale_[-2:], 1)
        assert ours.n_samples_seen_ == 300

    def test_wide_sparse_tables_stay_sparse(self):
        """As it is 200 MB."""
        rng = np.random.default_rng(0)
        rows = sparse.random_array((5_000, 10_000), density=1e-3, format="csr", dtype="f", rng=rng)
        embedder = TripletEmbedder(hidden_layer_sizes=(2,))
        tracemalloc.start()
        moments = merged_moments(None, rows, (10_000,))
        build_network(embedder, rows, (10_000,), moments, seed=0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10e6

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("shape", [(20, 3, 8, 9), (20, 8, 9, 3), (20, 216)])
    def test_images_by_channel(self, shape, dtype):
        images = np.random.default_rng(0).integers(255, size=shape).astype(dtype)
        moments = merged_moments(None, images, (3, 8, 9))
        channels = ChannelsFirst((3, 8, 9))(torch.from_numpy(images)).double()
        assert_allclose(moments.mean_, channels.mean(dim=(0, 2, 3)), rtol=1e-6)
        deviations = channels.std(dim=(0, 2, 3), correction=0)
        assert_allclose(moments.scale_, deviations, rtol=1e-6)
        network = build_network(TripletEmbedder(), images, (3, 8, 9), moments, seed=0)
        standardized = network.standardizer(channels.float())
        assert_allclose(standardized.mean(dim=(0, 2, 3)), np.zeros(3), atol=1e-5)


class TestTemplate:
    def test_its_settings_are_used(self, quick, blobs):
        template = TripletNet(optimizer=torch.optim.SGD, optimizer__momentum=0.5)
        net = quick(net=template).fit(*blobs).net_
        assert isinstance(net.optimizer_, torch.optim.SGD)
        assert net.optimizer_.param_groups[0]["momentum"] == 0.5
        assert net is not template
        assert not template.initialized_

    def test_it_is_equal_to_no_template(self, quick, blobs):
        assert torch.equal(
            weights(quick(net=TripletNet()).fit(*blobs)), weights(quick().fit(*blobs))
        )

    def test_its_callbacks_are_cloned(self, quick, blobs):
        class Count(Callback):
            epochs = 0

            def on_epoch_end(self, net, **kwargs):
                self.epochs += 1

        count = Count()
        net = quick(max_epochs=3, net=TripletNet(callbacks=[count])).fit(*blobs).net_
        assert count.epochs == 0
        assert dict(net.callbacks_)["Count"].epochs == 3

    def test_early_stopping_by_skorch(self, quick, blobs):
        stop = EarlyStopping(monitor="train_loss", patience=1, threshold=1e9, sink=lambda _: None)
        net = quick(max_epochs=9, net=TripletNet(callbacks=[stop])).fit(*blobs).net_
        assert len(net.history) < 9

    def test_no_callbacks_at_all(self, quick, blobs):
        net = quick(net=TripletNet(callbacks="disable")).fit(*blobs).net_
        assert net.callbacks_ == []

    def test_a_subclass(self, quick, blobs):
        class Net(TripletNet):
            def train_step(self, batch, **fit_params):
                self.n_steps_ = getattr(self, "n_steps_", 0) + 1
                return super().train_step(batch, **fit_params)

        net = quick(max_epochs=2, net=Net(min_batches=3)).fit(*blobs).net_
        assert net.n_steps_ == 6

    def test_an_optimizer_without_weight_decay(self, quick, blobs):
        embedder = quick(max_epochs=1, net=TripletNet(optimizer=torch.optim.LBFGS))
        assert np.isfinite(embedder.fit_transform(*blobs)).all()

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
            ({"optimizer__weight_decay": 0.5}, "weight_decay"),
        ],
    )
    def test_every_setting_has_one_owner(self, quick, blobs, setting, ours):
        (theirs,) = setting
        embedder = quick(net=TripletNet(**setting))
        with pytest.raises(InvalidParameterError, match=f"'net'.*{theirs}=.*pass {ours}="):
            embedder.fit(*blobs)

    def test_none_sets_nothing(self, quick, blobs):
        """skorch's mixin for accelerate has it for the device."""
        net = quick(net=TripletNet(device=None), device="cpu").fit(*blobs).net_
        assert net.device == "cpu"

    def test_a_criterion_must_be_a_class(self, quick, blobs):
        with pytest.raises(InvalidParameterError, match="already made"):
            quick(net=TripletNet(criterion=TripletLoss(0.5))).fit(*blobs)
