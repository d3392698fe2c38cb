"""Templates, the embeddings that represent enrolled classes, and distances to them.

Templates are sorted by class.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

# Neighbors to search per impostor. Larger classes are skipped instead of searched.
MAX_NEIGHBORS = 100


def enroll_templates(
    embeddings: NDArray, labels: NDArray, sizes: NDArray | None = None, *, by_class: bool
) -> tuple[NDArray, NDArray, NDArray[np.int64]]:
    """Return templates, their labels, and the number of samples that each is the mean of."""
    if sizes is None:
        sizes = np.ones(len(labels), dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    embeddings, labels, sizes = embeddings[order], labels[order], sizes[order]
    if not by_class:
        return embeddings, labels, sizes
    classes, starts = np.unique(labels, return_index=True)
    totals = np.add.reduceat(embeddings * sizes[:, None].astype(float), starts)
    sizes = np.add.reduceat(sizes, starts)
    return (totals / sizes[:, None]).astype(embeddings.dtype), classes, sizes


def nearest_templates(
    embeddings: NDArray, templates: NDArray
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the position of the nearest template of every sample, and the distance to it."""
    nearest = pairwise_distances_argmin(embeddings, templates)
    return nearest, _distances(embeddings, templates[nearest])


def distances_to_classes(
    embeddings: NDArray, templates: NDArray, template_labels: NDArray
) -> NDArray[np.float64]:
    """Return the distance of every sample to the nearest template of every class."""
    starts = np.unique(template_labels, return_index=True)[1]
    parts = pairwise_distances_chunked(
        embeddings.astype(float),
        templates.astype(float),
        reduce_func=lambda distances, start: np.minimum.reduceat(distances, starts, axis=1),
    )
    return np.concatenate(list(parts))


def impostor_distances(
    templates: NDArray, template_labels: NDArray, probes: NDArray, probe_labels: NDArray
) -> NDArray[np.float64]:
    """Return the distance of every probe to the nearest template of another class.

    If its own class has few templates, one of its next neighbors is of another class, so a single
    query is sufficient for all these probes.
    """
    first = np.searchsorted(template_labels, probe_labels, side="left")
    last = np.searchsorted(template_labels, probe_labels, side="right")
    distances = np.empty(len(probes))
    is_few = last - first < MAX_NEIGHBORS
    if is_few.any():
        n_neighbors = int((last - first)[is_few].max()) + 1
        search = NearestNeighbors(n_neighbors=n_neighbors).fit(templates)
        neighbors = search.kneighbors(probes[is_few], return_distance=False)
        is_other = template_labels[neighbors] != probe_labels[is_few, None]
        nearest = neighbors[np.arange(len(neighbors)), is_other.argmax(axis=1)]
        distances[is_few] = _distances(probes[is_few], templates[nearest])
    for label in np.unique(probe_labels[~is_few]):
        is_probe = probe_labels == label
        start, stop = first[is_probe][0], last[is_probe][0]
        others = [part for part in (templates[:start], templates[stop:]) if len(part)]
        distances[is_probe] = np.min(
            [nearest_templates(probes[is_probe], part)[1] for part in others], axis=0
        )
    return distances


def _distances(left: NDArray, right: NDArray) -> NDArray[np.float64]:
    """Return the distances between samples in the same rows.

    Searches compute them from matrix products, whose rounding errors depend on the other samples,
    so a distance would be below the threshold in one search and above it in another.
    """
    return np.linalg.norm(left.astype(float) - right, axis=1)
