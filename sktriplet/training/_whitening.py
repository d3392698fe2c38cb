"""Whitening of the embeddings of a trained net."""

from typing import Any

import torch

from sktriplet.training._data import ArrayDataset, samples_of

# The second moment of more samples would hardly differ.
MAX_SAMPLES = 10_000


def fit_whitening(net: Any, dataset: ArrayDataset) -> None:
    """Compute the whitening of a trained net, if it has one, from evenly spaced samples."""
    network = net.module
    whitening = network.whitening
    if whitening is None:
        return
    step = -(-len(dataset) // MAX_SAMPLES)
    network.whitening = None
    try:
        embeddings = net.embed(samples_of(dataset)[::step])
    finally:
        network.whitening = whitening
    whitening.update(torch.from_numpy(embeddings))
