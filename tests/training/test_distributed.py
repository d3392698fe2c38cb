import os
import pickle
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.testing import assert_array_equal
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel

from sktriplet import TripletEmbedder
from sktriplet.networks import MLP
from sktriplet.training import BalancedBatchSampler, TripletNet
from sktriplet.training._distributed import check_agreement, place_of, share_buffers, unwrapped


@pytest.fixture
def group():
    """A group of one process: all that can be had without starting others."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def module(group):
    return DistributedDataParallel(MLP((5,), 2, (4,)))


@pytest.fixture
def two(monkeypatch):
    """As if this process were the second of two, and the first had said something else."""

    def gather(given, values, group):
        given[:] = [{**values, "y": crc32(pickle.dumps(1))}, values]

    monkeypatch.setattr(dist, "get_rank", lambda group: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda group: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)


class TestPlace:
    def test_second_of_two(self, module, two):
        assert place_of(module) == (1, 2)

    def test_a_module_of_ones_own(self, group, two):
        """Other processes are there, but not for this module."""
        assert place_of(MLP((5,), 2)) == (0, 1)


def test_unwrapped(module):
    assert isinstance(unwrapped(module), MLP)
    assert unwrapped(unwrapped(module)) is unwrapped(module)


class TestAgreement:
    def test_with_oneself(self, module):
        check_agreement(module, random_state=3, y=2)

    def test_of_two(self, module, two):
        check_agreement(module, random_state=3, y=1)
        with pytest.raises(ValueError, match=r"The 2 processes .* same y\. Got 2 different"):
            check_agreement(module, random_state=3, y=2)

    def test_of_none(self, two):
        check_agreement(MLP((5,), 2), random_state=3, y=2)


def test_buffers_are_those_of_the_first(module, monkeypatch):
    sent = []
    monkeypatch.setattr(
        dist, "broadcast", lambda tensor, first, group: sent.append((tensor, first))
    )
    share_buffers(unwrapped(module))
    assert not sent
    share_buffers(module)
    assert [first for _, first in sent] == [0, 0, 0]
    assert {id(tensor) for tensor, _ in sent} == set(map(id, module.buffers()))


class WrappedInTraining(TripletNet):
    """Wraps its module when skorch's mixin for accelerate does, and takes it out when that does."""

    def initialize(self):
        super().initialize()
        self.module_ = DistributedDataParallel(self.module_)
        return self

    def on_train_end(self, net, **kwargs):
        super().on_train_end(net, **kwargs)
        self.module_ = self.module_.module


def state(embedder):
    return {name: value.cpu().numpy() for name, value in embedder.net_.module_.state_dict().items()}


def assert_same(states, expected):
    assert states.keys() == expected.keys()
    for name in expected:
        assert_array_equal(states[name], expected[name])


class TestWrapped:
    def test_changes_nothing(self, quick, digits, group):
        plain, wrapped = quick().fit(*digits), quick(net=WrappedInTraining()).fit(*digits)
        assert_same(state(wrapped), state(plain))
        for ours, theirs in zip(wrapped.history_, plain.history_, strict=True):
            assert ours | {"dur": 0} == theirs | {"dur": 0}

    def test_the_best_epoch_is_restored(self, quick, digits, group):
        settings = {"early_stopping": True, "n_iter_no_change": 1, "lr": 0.3, "max_epochs": 9}
        plain = quick(**settings).fit(*digits)
        assert plain.validation_scores_[-1] < plain.best_validation_score_
        wrapped = quick(net=WrappedInTraining(), **settings).fit(*digits)
        assert_same(state(wrapped), state(plain))

    def test_a_criterion_that_is_wrapped_too(self, group, blobs):
        class Wrapped(WrappedInTraining):
            def initialize(self):
                super().initialize()
                self.criterion_ = DistributedDataParallel(self.criterion_)
                return self

        net = Wrapped(MLP((5,), 2), Learned, max_epochs=1, verbose=0)
        assert "spread" in net.fit(blobs[0].astype(np.float32), blobs[1]).history[-1]


class Learned(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, embeddings, labels):
        self.statistics = {"spread": embeddings.std().detach()}
        return (self.scale * embeddings).square().mean()


def test_accelerate_with_one_process_changes_nothing(quick, digits):
    accelerate = pytest.importorskip("accelerate")
    from train_together import AcceleratedTripletNet

    accelerator = accelerate.Accelerator(cpu=True, device_placement=False)
    net = AcceleratedTripletNet(accelerator=accelerator, callbacks__print_log__sink=print)
    accelerated = quick(net=net).fit(*digits)
    assert_same(state(accelerated), state(quick().fit(*digits)))


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def reports(request, tmp_path_factory):
    """What two processes have to say that train together."""
    pytest.importorskip("accelerate")
    if request.param == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    folder = tmp_path_factory.mktemp("together")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
        *(
            str(Path(__file__).parents[1] / "scripts" / "train_together.py"),
            str(folder),
            request.param,
        ),
    ]
    on_loopback = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        command, env=os.environ | on_loopback, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return [
        *(pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(2)),
        (folder / "embedder.pkl").read_bytes(),
    ]


@pytest.mark.slow
class TestTwoProcesses:
    def test_each_has_its_share_of_the_batches(self, reports):
        from train_together import SETTINGS, rows

        X, y = rows()
        sampler = BalancedBatchSampler(y, min_batches=20, random_state=reports[0]["seed"])
        n_epochs = SETTINGS["max_epochs"]
        expected = [rows for _ in range(n_epochs) for rows in sampler]
        for rank, report in enumerate(reports[:2]):
            assert len(report["batches"]) == 10 * n_epochs
            for batch, rows_of_batch in zip(report["batches"], expected[rank::2], strict=True):
                assert_array_equal(batch, X[rows_of_batch])

    def test_what_is_random_differs(self, reports):
        assert not set(reports[0]["draws"]) & set(reports[1]["draws"])

    @pytest.mark.parametrize("trained", ["state", "stopped", "continued"])
    def test_all_have_the_same_network_in_the_end(self, reports, trained):
        first, second = (report[trained] for report in reports[:2])
        assert "body.plain.1.running_mean" in first
        assert_same(first, second)

    def test_the_learning_rate_falls_to_the_end(self, reports):
        progress = np.arange(4) / 4
        for report in reports[:2]:
            rates = [epoch["lr"] for epoch in report["history"]]
            np.testing.assert_allclose(rates, 2e-3 * (1 + np.cos(np.pi * progress)) / 2)

    def test_both_stop_after_the_same_epoch(self, reports):
        first, second = (report["scores"] for report in reports[:2])
        assert first == second
        assert first[-1] < max(first), "else there was nothing to restore"

    @pytest.mark.parametrize("parameter", ["random_state", "y"])
    def test_disagreement_is_an_error_in_both(self, reports, parameter):
        for report in reports[:2]:
            assert f"must all be given the same {parameter}." in report[f"another {parameter}"]

    def test_retrieval_is_no_worse_than_of_one(self, reports):
        """In as many steps, each of which sees twice as many rows."""
        from train_together import SETTINGS, rows

        X, y = load_digits(return_X_y=True)
        alone = TripletEmbedder(**SETTINGS).fit(*rows())
        together = pickle.loads(reports[2])
        assert together.score(X[500:1000], y[500:1000]) >= alone.score(X[500:1000], y[500:1000])
