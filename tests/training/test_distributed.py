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
from sktriplet.training._distributed import (
    broadcast_buffers,
    check_same_on_all_ranks,
    rank_and_world_size,
    unwrap_ddp,
)


@pytest.fixture
def process_group():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def module(process_group):
    return DistributedDataParallel(MLP((5,), 2, (4,)))


@pytest.fixture
def two_processes(monkeypatch):
    """Simulate that this process is the second of two, and that the first has y=1."""

    def gather(given, values, group):
        given[:] = [{**values, "y": crc32(pickle.dumps(1))}, values]

    monkeypatch.setattr(dist, "get_rank", lambda group: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda group: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)


class TestRankAndWorldSize:
    def test_two_processes(self, module, two_processes):
        assert rank_and_world_size(module) == (1, 2)

    def test_unwrapped_module(self, process_group, two_processes):
        """Other processes do not train this module."""
        assert rank_and_world_size(MLP((5,), 2)) == (0, 1)


def test_unwrap_ddp(module):
    assert isinstance(unwrap_ddp(module), MLP)
    assert unwrap_ddp(unwrap_ddp(module)) is unwrap_ddp(module)


class TestCheckSameOnAllRanks:
    def test_one_process(self, module):
        check_same_on_all_ranks(module, random_state=3, y=2)

    def test_two_processes(self, module, two_processes):
        check_same_on_all_ranks(module, random_state=3, y=1)
        with pytest.raises(ValueError, match=r"2 processes .*same y\b.*2 different"):
            check_same_on_all_ranks(module, random_state=3, y=2)

    def test_unwrapped_module(self, two_processes):
        check_same_on_all_ranks(MLP((5,), 2), random_state=3, y=2)


def test_broadcast_buffers(module, monkeypatch):
    sent = []
    monkeypatch.setattr(
        dist, "broadcast", lambda tensor, first, group: sent.append((tensor, first))
    )
    broadcast_buffers(unwrap_ddp(module))
    assert not sent
    broadcast_buffers(module)
    assert [first for _, first in sent] == [0, 0, 0]
    assert {id(tensor) for tensor, _ in sent} == set(map(id, module.buffers()))


class WrappedInTraining(TripletNet):
    """Wraps and unwraps its module when skorch's mixin for accelerate does."""

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
    def test_result_is_unchanged(self, make_embedder, digits, process_group):
        plain, wrapped = (
            make_embedder().fit(*digits),
            make_embedder(net=WrappedInTraining()).fit(*digits),
        )
        assert_same(state(wrapped), state(plain))
        for ours, theirs in zip(wrapped.history_, plain.history_, strict=True):
            assert ours | {"dur": 0} == theirs | {"dur": 0}

    def test_early_stopping_restores_best_epoch(self, make_embedder, digits, process_group):
        settings = {"n_iter_no_change": 1, "lr": 0.3, "max_epochs": 9, "cross_fit": False}
        settings |= {"early_stopping": True}
        plain = make_embedder(**settings).fit(*digits)
        assert np.argmax(plain.validation_scores_) < plain.n_iter_ - 1
        wrapped = make_embedder(net=WrappedInTraining(), **settings).fit(*digits)
        assert_same(state(wrapped), state(plain))

    def test_wrapped_criterion(self, process_group, blobs):
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


def test_accelerate_with_one_process(make_embedder, digits):
    accelerate = pytest.importorskip("accelerate")
    from train_together import AcceleratedTripletNet

    accelerator = accelerate.Accelerator(cpu=True, device_placement=False)
    net = AcceleratedTripletNet(accelerator=accelerator, callbacks__print_log__sink=print)
    accelerated = make_embedder(net=net).fit(*digits)
    assert_same(state(accelerated), state(make_embedder().fit(*digits)))


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def reports(request, tmp_path_factory):
    """Reports of two processes that train together."""
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
    def test_processes_share_batches(self, reports):
        from train_together import SETTINGS, load_samples

        X, y = load_samples()
        sampler = BalancedBatchSampler(y, min_batches=20, random_state=reports[0]["seed"])
        n_epochs = SETTINGS["max_epochs"]
        expected = [indices for _ in range(n_epochs) for indices in sampler]
        for rank, report in enumerate(reports[:2]):
            assert len(report["batches"]) == 10 * n_epochs
            for batch, indices in zip(report["batches"], expected[rank::2], strict=True):
                assert_array_equal(batch, X[indices])

    def test_random_numbers_differ(self, reports):
        assert not set(reports[0]["draws"]) & set(reports[1]["draws"])

    @pytest.mark.parametrize("trained", ["state", "stopped", "continued"])
    def test_networks_are_equal(self, reports, trained):
        first, second = (report[trained] for report in reports[:2])
        assert "backbone.plain.1.running_mean" in first
        assert_same(first, second)

    def test_learning_rate_schedule(self, reports):
        progress = np.arange(4) / 4
        for report in reports[:2]:
            rates = [epoch["lr"] for epoch in report["history"]]
            np.testing.assert_allclose(rates, 2e-3 * (1 + np.cos(np.pi * progress)) / 2)

    def test_early_stopping_agrees(self, reports):
        first, second = (report["scores"] for report in reports[:2])
        assert first == second
        tol = TripletEmbedder().tol
        assert first[-1] < max(first[:-1]) + tol, "an epoch before the last one was restored"

    @pytest.mark.parametrize("parameter", ["random_state", "y"])
    def test_disagreement_raises_in_both(self, reports, parameter):
        for report in reports[:2]:
            assert f"same {parameter}" in report[f"another {parameter}"]

    def test_score_is_at_least_that_of_one_process(self, reports):
        """With as many steps, each on twice as many samples."""
        from train_together import SETTINGS, load_samples

        X, y = load_digits(return_X_y=True)
        alone = TripletEmbedder(**SETTINGS).fit(*load_samples())
        together = pickle.loads(reports[2])
        assert together.score(X[500:1000], y[500:1000]) >= alone.score(X[500:1000], y[500:1000])
