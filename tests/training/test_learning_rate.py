from math import cos, pi

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sktriplet.training import TripletNet


class TestCosineAnnealing:
    @pytest.fixture
    def fitted(self, make_net, samples, spy):
        """A fitted net, and the learning rates of both parameter groups in each step."""
        rates = []

        def record(net, **kwargs):
            rates.append([group["lr"] for group in net.optimizer_.param_groups])

        net = make_net(
            lr=0.1,
            optimizer__param_groups=[("head*", {"lr": 0.01})],
            callbacks=[spy(on_batch_end=record)],
        )
        return net.fit(*samples), np.array(rates)

    def test_rates(self, fitted):
        _, rates = fitted
        expected = [(1 + cos(pi * step / 12)) / 2 for step in range(12)]
        assert_allclose(rates / [0.01, 0.1], np.c_[expected, expected])

    def test_initial_rates_are_restored(self, fitted):
        net, _ = fitted
        assert [group["lr"] for group in net.optimizer_.param_groups] == [0.01, 0.1]

    def test_history(self, fitted):
        net, rates = fitted
        assert net.history[:, "lr"] == rates[::4, 0].tolist()

    def test_partial_fit_restarts(self, fitted, samples):
        net, _ = fitted
        net.set_params(lr=0.2).partial_fit(*samples)
        assert net.history[3, "lr"] == 0.2
        assert net.history[:, "epoch"] == [1, 2, 3, 4, 5, 6]

    def test_disabled(self, make_net, samples):
        net = make_net(callbacks__lr_scheduler=None).fit(*samples)
        assert net.optimizer_.param_groups[0]["lr"] == net.lr
        assert "lr" not in net.history[-1]

    def test_shorter_iterator(self, make_net, samples):
        """An iterator that is shared among processes has fewer batches than the sampler."""

        class Half(TripletNet):
            def get_iterator(self, dataset, training=False):
                return list(super().get_iterator(dataset, training))[::2]

        net = make_net(max_epochs=2)
        half = Half(**net.get_params(deep=False)).fit(*samples)
        assert half.history[:, "train_batch_count"] == [2, 2]
        assert half.history[:, "lr"] == net.fit(*samples).history[:, "lr"]
