import pytest
import torch
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def make_batch():
    """Make normally distributed embeddings (B, D) and random labels (B,)."""

    def make(size=24, n_classes=3, width=4, *, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        embeddings = torch.randn(size, width, generator=generator, dtype=dtype)
        return embeddings, torch.randint(n_classes, (size,), generator=generator)

    return make


@st.composite
def _batches(draw):
    size = draw(st.integers(0, 7))
    labels = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    sample = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
    samples = draw(st.lists(sample, min_size=size, max_size=size))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    embeddings = torch.tensor(samples, dtype=dtype).reshape(size, 2)
    return embeddings, torch.tensor(labels, dtype=torch.int64)


@pytest.fixture(scope="session")
def batches():
    """A hypothesis strategy for small batches.

    Whole coordinates make ties and duplicates common, and distances exact.
    """
    return _batches()


@pytest.fixture(scope="session")
def exact_sqeuclidean():
    """Squared distances without rounding errors where the coordinates are whole numbers."""

    def exact_sqeuclidean(embeddings):
        return (embeddings[:, None] - embeddings).square().sum(dim=2)

    return exact_sqeuclidean
