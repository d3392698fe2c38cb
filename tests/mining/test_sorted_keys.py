"""The NumPy implementation of the miners, for float32 on a CPU, against the one in torch."""

import pytest
import torch

from sktriplet.distances import sqeuclidean
from sktriplet.mining import hard, random, semi_hard


@pytest.mark.parametrize("miner", [semi_hard, hard])
@pytest.mark.parametrize("size", [33, 257, 513])
@pytest.mark.parametrize("n_classes", [2, 9, 200])
@pytest.mark.parametrize("resolution", [2**-3, 2**-20], ids=["tied", "untied"])
def test_float32_matches_float64(miner, size, n_classes, resolution, make_batch, as_set):
    """With several chunks of anchors. No sum of these distances and the margin is rounded."""
    points, labels = make_batch(size, n_classes, torch.float64)
    distances = (sqeuclidean(points) / resolution).round() * resolution
    found = as_set(miner(distances.float(), labels, margin=0.25))
    assert found == as_set(miner(distances, labels, margin=0.25))
    assert found


def test_negative_zero_equals_zero(as_set):
    distances = torch.tensor([[0.0, -0.0, 0.0, 0.5], [0.0, 0.0, -0.0, 0.5]]).repeat(2, 1)
    labels = torch.tensor([0, 0, 1, 1])
    expected = as_set(semi_hard(distances.double(), labels, margin=1))
    assert as_set(semi_hard(distances, labels, margin=1)) == expected
    assert (0, 1, 3) in expected


@pytest.mark.parametrize("miner", [semi_hard, hard, random])
def test_any_bit_pattern(miner, as_set):
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (64, 64), generator=generator).to(torch.int32)
    bits[:, ::5] = -1  # NaN
    bits[:, 1::5] = 2**31 - 1  # NaN
    bits[:, 2::5] = 0x7F7FFFFF  # the largest finite number
    labels = torch.randint(3, (64,), generator=generator)
    for a, p, n in as_set(miner(bits.view(torch.float32), labels, margin=0.2)):
        assert a != p
        assert labels[a] == labels[p] != labels[n]
