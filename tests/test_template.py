import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping

from sktriplet.criterion import TripletLoss
from sktriplet.exceptions import InvalidParameterError
from sktriplet.modules import MLP
from sktriplet.net import TripletNet


def weights(embedder):
    return torch.nn.utils.parameters_to_vector(embedder.net_.module_.parameters()).detach()


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

    def test_a_criterion_must_be_a_class(self, quick, blobs):
        with pytest.raises(InvalidParameterError, match="already made"):
            quick(net=TripletNet(criterion=TripletLoss(0.5))).fit(*blobs)
