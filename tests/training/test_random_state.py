import threading

import numpy as np
import pytest
import torch

from sktriplet.training import TripletNet
from sktriplet.training._device import ACCELERATORS
from sktriplet.training._random_state import DEVICE_GENERATORS, isolated_rng, one_thread


def test_random_state_makes_training_reproducible(make_net, samples, weights):
    torch.manual_seed(1)
    first = make_net().fit(*samples)
    torch.manual_seed(2)
    assert torch.equal(weights(first), weights(make_net().fit(*samples)))
    assert not torch.equal(weights(first), weights(make_net(random_state=1).fit(*samples)))


def test_random_state_seeds_dropout(samples, weights):
    def fitted():
        torch.manual_seed(7)
        module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(5, 2))
        torch.seed()
        net = TripletNet(module, max_epochs=2, min_batches=2, random_state=0, verbose=0)
        return net.fit(*samples)

    assert torch.equal(weights(fitted()), weights(fitted()))


def test_random_state_differs_between_epochs(make_net, samples, spy):
    drawn = []
    draw = spy(on_epoch_begin=lambda net, **kwargs: drawn.append(torch.rand(1).item()))
    make_net(callbacks=[draw]).fit(*samples)
    assert len(set(drawn)) == 3


def test_global_random_state_is_restored(make_net, samples):
    net = make_net()
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    net.fit(*samples)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()


@pytest.mark.gpu
def test_global_random_state_is_restored_on_cuda(make_net, samples):
    before = torch.cuda.get_rng_state()
    net = make_net(device="cuda").fit(*samples)
    assert torch.equal(before, torch.cuda.get_rng_state())
    assert np.isfinite(net.embed(samples[0])).all()


def test_isolated_rng_ignores_unused_devices(make_net, samples, monkeypatch):
    def fail(*args):
        pytest.fail("seeded")

    monkeypatch.setattr(torch, "manual_seed", fail)  # it seeds all devices
    for name, accelerator in ACCELERATORS.items():
        monkeypatch.setitem(ACCELERATORS, name, accelerator._replace(manual_seed=fail))
        monkeypatch.setattr(DEVICE_GENERATORS[name], "read", fail)
        monkeypatch.setattr(DEVICE_GENERATORS[name], "write", fail)
    make_net().fit(*samples)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_isolated_rng_on_accelerator(device, monkeypatch):
    """With a stand-in for the device's generator."""
    state = [7]

    def write(value):
        state[0] = value

    accelerator = ACCELERATORS[device]._replace(manual_seed=write)
    monkeypatch.setitem(ACCELERATORS, device, accelerator)
    monkeypatch.setattr(DEVICE_GENERATORS[device], "read", lambda: state[0])
    monkeypatch.setattr(DEVICE_GENERATORS[device], "write", write)
    with isolated_rng(3, device):
        assert state == [3]
    assert state == [7]


def test_isolated_rng_without_seed():
    with isolated_rng(None, "cpu"):
        before = torch.get_rng_state()
        torch.rand(1)
    assert not torch.equal(before, torch.get_rng_state())


def test_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError, match="1 thread"), one_thread():
            raise RuntimeError(f"{torch.get_num_threads()} thread")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_overlapping_threads_restore_global_state():
    """One fit begins within another, in another thread, and ends after it."""
    begun, may_end = threading.Event(), threading.Event()

    def second_fit():
        with isolated_rng(1, "cpu"), one_thread():
            begun.set()
            may_end.wait()
        counts.append(torch.get_num_threads())

    counts = []
    torch.manual_seed(0)
    state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        second = threading.Thread(target=second_fit)
        with isolated_rng(0, "cpu"), one_thread():
            second.start()
            begun.wait()
        assert torch.get_num_threads() == 3
        may_end.set()
        second.join()
        assert counts == [3]
        assert torch.equal(torch.get_rng_state(), state)
        third = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
        third.start()
        third.join()
        assert counts == [3, 3]
    finally:
        torch.set_num_threads(n_threads)
