"""What must be the same on CUDA as on the CPU, and what must run there."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sktriplet import TripletEmbedder
from sktriplet.distances import DISTANCES
from sktriplet.losses import TripletLoss
from sktriplet.losses._batch_all import batch_all_counts
from sktriplet.losses._triplet import MINING_STRATEGIES
from sktriplet.mining import MINERS
from sktriplet.training import TripletNet

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _all_digits():
    """Convolutions drop some by default, on GPUs that are faster so."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(params=["table", "images"])
def settings_and_data(request, digits):
    X, y = digits
    if request.param == "table":
        return {}, X.astype(np.float32), y
    return {"n_components": 8}, X.reshape(-1, 8, 8).astype(np.float32), y


def weights(embedder):
    return torch.cat([w.detach().cpu().flatten() for w in embedder.net_.module_.parameters()])


def moved(embedder, device):
    embedder = copy.deepcopy(embedder)
    embedder.net_.device = device
    embedder.net_.module_.to(device)
    return embedder


class TestMining:
    """Whole numbers make ties common, and leave nothing to rounding."""

    @pytest.fixture
    def batch(self, rng):
        points = rng.integers(0, 6, size=(150, 3))
        distances = np.square(points[:, None] - points).sum(axis=2)
        return torch.tensor(distances, dtype=torch.float32), torch.tensor(rng.integers(9, size=150))

    @pytest.mark.parametrize("name", MINERS)
    def test_triplets_are_the_same(self, batch, name):
        def mined(*batch):
            generator = torch.Generator().manual_seed(0)
            triplets = MINERS[name](*batch, margin=4.0, generator=generator)
            assert {indices.device for indices in triplets} == {batch[0].device}
            return torch.stack(triplets, dim=1).tolist()

        on_cpu, on_cuda = mined(*batch), mined(*(tensor.cuda() for tensor in batch))
        assert len(on_cpu) > 100
        assert sorted(on_cuda) == sorted(on_cpu)

    def test_batch_all_counts_are_the_same(self, batch):
        on_cuda = batch_all_counts(*(tensor.cuda() for tensor in batch), margin=4.0)
        assert torch.equal(on_cuda.cpu(), batch_all_counts(*batch, margin=4.0))

    @pytest.mark.parametrize("metric", DISTANCES)
    @pytest.mark.parametrize("mining", sorted(set(MINING_STRATEGIES) - {"random"}))
    def test_losses_and_gradients(self, metric, mining):
        points = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(64) % 7

        def loss_and_gradient(device):
            embeddings = points.to(device).requires_grad_()
            criterion = TripletLoss(0.7, mining=mining, metric=metric, nca_weight=1.0)
            loss = criterion(embeddings, labels.to(device))
            loss.backward()
            return loss.item(), embeddings.grad.cpu()

        on_cpu, on_cuda = loss_and_gradient("cpu"), loss_and_gradient("cuda")
        assert on_cuda[0] == pytest.approx(on_cpu[0], rel=1e-4)
        assert_allclose(on_cuda[1], on_cpu[1], atol=1e-4)


class TestParity:
    def test_transform(self, quick, settings_and_data):
        settings, X, y = settings_and_data
        embedder = quick(device="cpu", **settings).fit(X, y)
        expected = embedder.transform(X)
        for both in ((embedder, "cuda"), (moved(embedder, "cuda"), "cpu")):
            assert_allclose(moved(*both).transform(X), expected, atol=1e-4)

    def test_the_first_steps_of_fit(self, quick, settings_and_data):
        """Later ones may mine another triplet where two are as near but for the last digit."""
        settings, X, y = settings_and_data
        net = TripletNet(optimizer=torch.optim.SGD, min_batches=1)

        def trained(device):
            whole = {"max_epochs": 2, "batch_size": 600, "lr": 0.01, "mining": "all"}
            return weights(quick(device=device, net=net, **(settings | whole)).fit(X, y))

        on_cpu, on_cuda = trained("cpu"), trained("cuda")
        assert_allclose(on_cuda, on_cpu, atol=1e-4)

    def test_what_is_learned(self, quick, settings_and_data):
        settings, X, y = settings_and_data
        on_cpu, on_cuda = (
            quick(device=device, max_epochs=5, **settings).fit(X, y) for device in ("cpu", "cuda")
        )
        assert on_cuda.score(X, y) == pytest.approx(on_cpu.score(X, y), abs=0.05)


class TestPickle:
    def test_stays(self, quick, blobs):
        embedder = quick(device="cuda").fit(*blobs)
        again = pickle.loads(pickle.dumps(embedder))
        assert next(again.net_.module_.parameters()).is_cuda
        assert_array_equal(again.transform(blobs[0]), embedder.transform(blobs[0]))

    def test_loads_where_there_is_no_gpu(self, quick, blobs, tmp_path):
        embedder = quick(device="cuda").fit(*blobs)
        (tmp_path / "embedder.pkl").write_bytes(pickle.dumps(embedder))
        np.save(tmp_path / "X.npy", blobs[0])
        elsewhere = (
            "import pickle, sys, numpy as np\n"
            "folder = sys.argv[1]\n"
            "with open(folder + '/embedder.pkl', 'rb') as file: embedder = pickle.load(file)\n"
            "np.save(folder + '/Z.npy', embedder.transform(np.load(folder + '/X.npy')))\n"
        )
        subprocess.run(
            [sys.executable, "-c", elsewhere, str(tmp_path)],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.getcwd()},
            check=True,
        )
        embedded = np.load(tmp_path / "Z.npy")
        assert_allclose(embedded, embedder.transform(blobs[0]), atol=1e-4)


class TestRuns:
    def test_bfloat16(self, quick, settings_and_data):
        settings, X, y = settings_and_data
        full, half = (
            quick(device="cuda", precision=precision, max_epochs=5, **settings).fit(X, y)
            for precision in ("float32", "bfloat16")
        )
        assert half.transform(X).dtype == np.float32
        assert not torch.equal(weights(half), weights(full))
        assert half.score(X, y) == pytest.approx(full.score(X, y), abs=0.05)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("default")  # what torch's compiler says of itself
    def test_compiled(self, quick, digits):
        compiled = quick(device="cuda", net=TripletNet(compile=True)).fit(*digits)
        plain = quick(device="cuda").fit(*digits)
        assert compiled.score(*digits) == pytest.approx(plain.score(*digits), abs=0.05)

    def test_early_stopping(self, quick, digits):
        embedder = quick(device="cuda", early_stopping=True).fit(*digits)
        assert embedder.best_validation_score_ > 0.5

    def test_going_on(self, quick, digits):
        embedder = quick(device="cuda", warm_start=True).fit(*digits)
        assert embedder.fit(*digits).partial_fit(*digits).n_iter_ == 5

    def test_augmented_images(self, digits):
        X, y = digits
        settings = {"augment": "crop_flip_erase", "max_epochs": 1, "random_state": 0}
        embedder = TripletEmbedder(8, device="cuda", **settings).fit(X.reshape(-1, 8, 8), y)
        assert next(embedder.net_.module_.parameters()).is_cuda
        assert np.isfinite(embedder.transform(X[:9].reshape(-1, 8, 8))).all()
