import pytest
import torch


@pytest.fixture(scope="session")
def make_batch():
    """Make points (B, D) on the unit sphere and random labels (B,)."""

    def make(size, n_classes, dtype=torch.float32, *, seed=0):
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(size, 4, generator=generator, dtype=dtype)
        labels = torch.randint(n_classes, (size,), generator=generator)
        return torch.nn.functional.normalize(points, dim=1), labels

    return make


@pytest.fixture(scope="session")
def as_set():
    """Convert triplets to a set of tuples, and check their dtype, order, and uniqueness."""

    def as_set(triplets):
        listed = list(zip(*(indices.tolist() for indices in triplets), strict=True))
        assert len(set(listed)) == len(listed)
        assert all(indices.dtype == torch.int64 for indices in triplets)
        assert listed == sorted(listed, key=lambda triplet: triplet[0])
        return set(listed)

    return as_set
