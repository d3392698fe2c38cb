"""Parity of CUDA and the CPU, and training on CUDA."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sktriplet.distances import DISTANCES
from sktriplet.losses import TripletNCALoss
from sktriplet.losses._batch_all import batch_all_counts
from sktriplet.mining import MINERS
from sktriplet.training import TripletNet

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _no_tf32():
    """Convolutions use TensorFloat-32 by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(params=["table", "images"])
def make_and_data(request, digits, make_embedder, make_image_embedder):
    """A function that makes embedders, and X and y for them."""
    X, y = digits
    if request.param == "table":
        return make_embedder, X.astype(np.float32), y
    return make_image_embedder, X.reshape(-1, 8, 8).astype(np.float32), y


def moved(embedder, device):
    embedder = copy.deepcopy(embedder)
    embedder.net_.device = device
    embedder.net_.module_.to(device)
    return embedder


class TestMining:
    """Whole numbers make ties common, and distances exact."""

    @pytest.fixture
    def batch(self, rng):
        points = rng.integers(0, 6, size=(150, 3))
        distances = np.square(points[:, None] - points).sum(axis=2)
        return torch.tensor(distances, dtype=torch.float32), torch.tensor(rng.integers(9, size=150))

    @pytest.mark.parametrize("name", MINERS)
    def test_miner(self, batch, name):
        def mined(*batch):
            generator = torch.Generator().manual_seed(0)
            triplets = MINERS[name](*batch, margin=4.0, generator=generator)
            assert {indices.device for indices in triplets} == {batch[0].device}
            return torch.stack(triplets, dim=1).tolist()

        on_cpu, on_cuda = mined(*batch), mined(*(tensor.cuda() for tensor in batch))
        assert len(on_cpu) > 100
        assert sorted(on_cuda) == sorted(on_cpu)

    def test_batch_all_counts(self, batch):
        on_cuda = batch_all_counts(*(tensor.cuda() for tensor in batch), margin=4.0)
        assert torch.equal(on_cuda.cpu(), batch_all_counts(*batch, margin=4.0))

    @pytest.mark.parametrize("metric", DISTANCES)
    @pytest.mark.parametrize("mining", ["semi_hard", "hard", "all"])
    def test_loss_and_gradient(self, metric, mining):
        points = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(64) % 7

        def loss_and_gradient(device):
            embeddings = points.to(device).requires_grad_()
            criterion = TripletNCALoss(0.7, mining=mining, metric=metric, nca_weight=1.0)
            loss = criterion(embeddings, labels.to(device))
            loss.backward()
            return loss.item(), embeddings.grad.cpu()

        on_cpu, on_cuda = loss_and_gradient("cpu"), loss_and_gradient("cuda")
        assert on_cuda[0] == pytest.approx(on_cpu[0], rel=1e-4)
        assert_allclose(on_cuda[1], on_cpu[1], atol=1e-4)


class TestParity:
    def test_transform(self, make_and_data):
        make, X, y = make_and_data
        embedder = make(device="cpu").fit(X, y)
        expected = embedder.transform(X)
        for both in ((embedder, "cuda"), (moved(embedder, "cuda"), "cpu")):
            assert_allclose(moved(*both).transform(X), expected, atol=1e-4)

    def test_first_steps_of_fit(self, make_and_data, weights):
        """Later steps may mine other triplets because of rounding."""
        make, X, y = make_and_data
        net = TripletNet(optimizer=torch.optim.SGD, min_batches=1)

        def trained(device):
            parameters = {"max_epochs": 2, "batch_size": 600, "lr": 0.01, "mining": "all"}
            return weights(make(device=device, net=net, **parameters).fit(X, y))

        on_cpu, on_cuda = trained("cpu"), trained("cuda")
        assert_allclose(on_cuda, on_cpu, atol=1e-4)

    def test_score(self, make_and_data):
        make, X, y = make_and_data
        on_cpu, on_cuda = (
            make(device=device, max_epochs=5).fit(X, y) for device in ("cpu", "cuda")
        )
        assert on_cuda.score(X, y) == pytest.approx(on_cpu.score(X, y), abs=0.05)


class TestPickle:
    def test_device_is_kept(self, make_embedder, blobs):
        embedder = make_embedder(device="cuda").fit(*blobs)
        loaded = pickle.loads(pickle.dumps(embedder))
        assert next(loaded.net_.module_.parameters()).is_cuda
        assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))

    @pytest.mark.slow
    def test_without_gpu(self, make_embedder, blobs, tmp_path):
        embedder = make_embedder(device="cuda").fit(*blobs)
        (tmp_path / "embedder.pkl").write_bytes(pickle.dumps(embedder))
        np.save(tmp_path / "X.npy", blobs[0])
        code = (
            "import pickle, sys, numpy as np\n"
            "folder = sys.argv[1]\n"
            "with open(folder + '/embedder.pkl', 'rb') as file: embedder = pickle.load(file)\n"
            "np.save(folder + '/Z.npy', embedder.transform(np.load(folder + '/X.npy')))\n"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.getcwd()},
            check=True,
        )
        embedded = np.load(tmp_path / "Z.npy")
        assert_allclose(embedded, embedder.transform(blobs[0]), atol=1e-4)


class TestTraining:
    def test_bfloat16(self, make_and_data, weights):
        make, X, y = make_and_data
        full, half = (
            make(device="cuda", precision=precision, max_epochs=5).fit(X, y)
            for precision in ("float32", "bfloat16")
        )
        assert half.transform(X).dtype == np.float32
        assert not torch.equal(weights(half), weights(full))
        assert half.score(X, y) == pytest.approx(full.score(X, y), abs=0.05)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("default")  # warnings of torch's compiler
    def test_compile(self, make_embedder, digits):
        compiled = make_embedder(device="cuda", net=TripletNet(compile=True)).fit(*digits)
        plain = make_embedder(device="cuda").fit(*digits)
        assert compiled.score(*digits) == pytest.approx(plain.score(*digits), abs=0.05)

    def test_early_stopping(self, make_embedder, digits):
        embedder = make_embedder(device="cuda", early_stopping=True).fit(*digits)
        assert embedder.best_validation_score_ > 0.5

    def test_warm_start_and_partial_fit(self, make_embedder, digits):
        embedder = make_embedder(device="cuda", warm_start=True).fit(*digits)
        assert embedder.fit(*digits).partial_fit(*digits).n_iter_ == 5

    def test_augment(self, make_image_embedder, digits):
        X, y = digits
        embedder = make_image_embedder(device="cuda", augment="crop_flip_erase")
        embedder.fit(X.reshape(-1, 8, 8), y)
        assert next(embedder.net_.module_.parameters()).is_cuda
        assert np.isfinite(embedder.transform(X[:9].reshape(-1, 8, 8))).all()
