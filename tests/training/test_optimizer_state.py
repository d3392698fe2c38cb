import copy
import warnings

import pytest
import torch
from torch import nn

from sktriplet.training._optimizer_state import get_optimizer_state, load_optimizer_state


class Net(nn.Module):
    """Two layers, optionally with other names, sizes, or order."""

    def __init__(self, width=3, names=("first", "second")):
        super().__init__()
        sizes = {names[0]: (5, width), names[1]: (width, 2)}
        for name in sorted(names):
            self.add_module(name, nn.Linear(*sizes[name]))
        self.names = names

    def forward(self, X):
        for name in self.names:
            X = getattr(self, name)(X)
        return X


@pytest.fixture
def trained(make_net, samples):
    return make_net(module=Net(), max_epochs=1).fit(*samples)


@pytest.fixture
def make_untrained(make_net):
    def make(module=None, **parameters):
        return make_net(module=module or Net(), **parameters).initialize()

    return make


def moments(net):
    """Return the first moment of each parameter of Adam."""
    return {
        name: net.optimizer_.state[parameter]["exp_avg"]
        for name, parameter in net.module_.named_parameters()
        if parameter in net.optimizer_.state
    }


def test_roundtrip(trained, make_untrained):
    net = make_untrained()
    with warnings.catch_warnings(action="error"):
        load_optimizer_state(net, get_optimizer_state(trained))
    assert moments(net).keys() == moments(trained).keys()
    for name, value in moments(trained).items():
        assert torch.equal(moments(net)[name], value)


def test_nets_share_no_state(trained, make_untrained, samples):
    net, before = make_untrained(), copy.deepcopy(moments(trained))
    load_optimizer_state(net, get_optimizer_state(trained))
    net.partial_fit(*samples)
    for name, value in moments(trained).items():
        assert torch.equal(before[name], value)


def test_settings_are_not_loaded(trained, make_untrained):
    net = make_untrained(lr=0.5, optimizer__weight_decay=0.25)
    load_optimizer_state(net, get_optimizer_state(trained))
    group = net.optimizer_.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


def test_regrouped_parameters(trained, make_untrained):
    """State is assigned by name, not by position."""
    net = make_untrained(optimizer__param_groups=[("second*", {"lr": 0.1})])
    load_optimizer_state(net, get_optimizer_state(trained))
    for name, value in moments(trained).items():
        assert torch.equal(moments(net)[name], value)


@pytest.mark.parametrize(
    ("module", "n_dropped"),
    [(Net(width=4), 3), (Net(names=("first", "third")), 2)],
    ids=["shape", "name"],
)
def test_other_parameters(trained, make_untrained, module, n_dropped):
    net = make_untrained(module)
    with pytest.warns(UserWarning, match=f"{n_dropped} of 4 parameters"):
        load_optimizer_state(net, get_optimizer_state(trained))
    assert len(moments(net)) == 4 - n_dropped


def test_other_settings(trained, make_untrained):
    """With amsgrad, Adam has more state."""
    net = make_untrained(optimizer__amsgrad=True)
    with pytest.warns(UserWarning, match="4 of 4 parameters"):
        load_optimizer_state(net, get_optimizer_state(trained))
    assert not moments(net)


def test_other_optimizer(trained, make_untrained):
    net = make_untrained(optimizer=torch.optim.SGD)
    with warnings.catch_warnings(action="error"):
        load_optimizer_state(net, get_optimizer_state(trained))
    assert not net.optimizer_.state_dict()["state"]


def test_other_shapes_with_lbfgs(make_net, samples):
    """It has one state for all parameters, which is dropped."""
    trained = make_net(module=Net(), optimizer=torch.optim.LBFGS, max_epochs=1).fit(*samples)
    net = make_net(module=Net(width=4), optimizer=torch.optim.LBFGS).initialize()
    with pytest.warns(UserWarning, match="parameters"):
        load_optimizer_state(net, get_optimizer_state(trained))
    assert not net.optimizer_.state_dict()["state"]


def test_criterion_with_weights(make_untrained, make_net, samples):
    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, embeddings, labels):
            return (self.scale * embeddings).square().mean()

    trained = make_net(criterion=Loss, max_epochs=1).fit(*samples)
    state = get_optimizer_state(trained)
    assert "criterion.scale" in state["parameters"]
    net = make_net(criterion=Loss).initialize()
    load_optimizer_state(net, state)
    loaded = net.optimizer_.state[net.criterion_.scale]["exp_avg"]
    assert torch.equal(loaded, trained.optimizer_.state[trained.criterion_.scale]["exp_avg"])


def test_lbfgs(make_net, samples):
    """It has one state for all parameters."""
    parameters = {"module": Net(), "optimizer": torch.optim.LBFGS}
    trained = make_net(**parameters, max_epochs=1).fit(*samples)
    net = make_net(**parameters).initialize()
    load_optimizer_state(net, get_optimizer_state(trained))
    assert net.optimizer_.state_dict()["state"][0]["n_iter"] > 0
