import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from sktriplet.networks import Whitening
from sktriplet.networks._whitening import SHRINKAGE


def draw(n_samples, scales, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n_samples, len(scales))) * scales)


def fourth_root_of_inverse(samples):
    moment = samples.T @ samples / len(samples)
    moment += SHRINKAGE * np.trace(moment) / len(moment) * np.eye(len(moment))
    return np.linalg.inv(sqrtm(sqrtm(moment)).real)


def test_definition():
    samples = draw(50, [3.0, 1.0, 0.2]) @ torch.linalg.qr(draw(3, [1.0] * 3))[0]
    whitening = Whitening(3)
    whitening.update(samples)
    expected = samples.numpy() @ fourth_root_of_inverse(samples.numpy())
    np.testing.assert_allclose(whitening(samples.float()), expected, rtol=1e-4, atol=1e-5)


def test_identity_without_samples():
    samples = draw(5, [1.0, 2.0]).float()
    assert torch.equal(Whitening(2)(samples), samples)


def test_members_are_separate():
    samples = draw(60, [1.0, 5.0, 2.0, 0.1, 1.0])
    together = Whitening(5, n_members=2)
    together.update(samples)
    for part in (slice(3), slice(3, 5)):  # as tensor_split splits them
        alone = Whitening(part.stop - (part.start or 0))
        alone.update(samples[:, part])
        expected = alone(samples[:, part].float())
        torch.testing.assert_close(together(samples.float())[:, part], expected)


def test_updates_accumulate():
    samples = draw(60, [1.0, 5.0, 2.0])
    whole, chunked = Whitening(3), Whitening(3)
    whole.update(samples)
    chunked.update(samples[:7])
    chunked.update(samples[7:])
    assert int(chunked.n_samples) == 60
    torch.testing.assert_close(chunked.matrix, whole.matrix, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("samples", [torch.zeros(4, 3), torch.ones(4, 3), torch.eye(3)[:1]])
def test_degenerate_samples(samples):
    whitening = Whitening(3)
    whitening.update(samples)
    assert whitening(samples).isfinite().all()
