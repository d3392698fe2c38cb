"""Cross-fitting of an ensemble: each member leaves out one fold of the training samples.

After each epoch every sample can be embedded by the member that has not been trained on it. These
out-of-fold embeddings decide when training stops, and replace the ordinary embeddings of
the training samples, whose labels the network has seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sktriplet.distances import sqeuclidean
from sktriplet.training._data import ArrayDataset, BatchLoader, samples_of
from sktriplet.training._early_stopping import EpochScoring, stop_early, subset

# With fewer folds, members would miss too many samples. Classes keep a pair in each fold. With
# fewer samples the score is mostly noise.
MIN_FOLDS, MIN_SAMPLES_PER_FOLD, MIN_SAMPLES = 4, 2, 100
# Parts of a batch are shortened to equal sizes if the sizes differ by less.
MIN_SIZE_RATIO = 0.75
# Fold of the samples that no member leaves out.
NO_FOLD = -1
# Stopping considers probabilities, which many neighbors estimate better; the choice of embeddings
# is made for few neighbors, to which it matters more.
MAX_NEIGHBORS, N_NEIGHBORS = 30, 5
# Caps that keep scoring short compared with an epoch, and with training.
MAX_SCORED, MAX_REFERENCES, MIN_SCORED_PER_CLASS = 1_000, 10_000, 16


def can_leave_folds_out(net: Any) -> bool:
    """Return whether the members of a net's module can be trained on different samples.

    The loader of balanced batches knows the samples of a batch; other iterators do not.
    """
    return net.module.members_are_independent and net.iterator_train is BatchLoader


def assign_folds(labels: NDArray, n_folds: int, rng: np.random.Generator) -> NDArray | None:
    """Assign samples to folds, stratified by class.

    Returns
    -------
    folds : ndarray of shape (n_samples,), or None
        Samples of small classes are in no fold. None if too few samples would be in one.
    """
    counts = np.bincount(labels)
    is_large_enough = counts[labels] >= MIN_SAMPLES_PER_FOLD * n_folds
    if n_folds < MIN_FOLDS or is_large_enough.sum() < MIN_SAMPLES:
        return None
    by_class = np.lexsort((rng.random(len(labels)), labels))
    folds = np.empty(len(labels), np.int8 if n_folds < 128 else np.int64)
    folds[by_class] = np.arange(len(labels)) % n_folds
    folds[~is_large_enough] = NO_FOLD
    return folds


def leave_folds_out(
    parts: list[Tensor], labels: Tensor, folds: Tensor, *, equal_sizes: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Remove from the part of each member the samples in its fold.

    With `equal_sizes`, parts that are longer than the shortest one lose further samples, at equal
    intervals, unless it is much shorter.
    """
    kept = [(folds != member).nonzero().squeeze(1) for member in range(len(parts))]
    sizes = [len(indices) for indices in kept]
    if equal_sizes and min(sizes) > MIN_SIZE_RATIO * max(sizes):
        steps = torch.arange(min(sizes), device=folds.device)
        kept = [indices[steps * len(indices) // min(sizes)] for indices in kept]
    pairs = zip(parts, kept, strict=True)
    return [part[indices] for part, indices in pairs], [labels[indices] for indices in kept]


def cross_fitted(
    embeddings: NDArray[np.float32], folds: NDArray, n_members: int, *, center: bool
) -> NDArray[np.float32]:
    """Replace the parts of all members by that of the one that has left out the sample.

    It is mapped into the space of each other member by the orthogonal map that aligns the
    embeddings of all samples best (orthogonal Procrustes), after centering both if `center`. The
    other member has seen their labels, but a rotation of all samples cannot show that of one.

    Parameters
    ----------
    embeddings : ndarray of shape (n_samples, n_components)
        Embeddings of the training samples.
    folds : ndarray of shape (n_samples,)
        Member that has left out each sample. Other values keep the embedding.
    n_members : int
        Number of members.
    center : bool
        Whether the origin of each member's space is arbitrary. It is not on the unit sphere.

    Returns
    -------
    embeddings : ndarray of shape (n_samples, n_components)
        Cross-fitted embeddings.
    """
    parts = np.array_split(embeddings, n_members, axis=1)
    crossed = [part.copy() for part in parts]
    means = [part.mean(axis=0) * center for part in parts]
    for source, part in enumerate(parts):
        left_out = folds == source
        centered = part - means[source]
        for target, other in enumerate(parts):
            if target != source:
                rotation = _orthogonal_map(centered, other - means[target])
                mapped = centered[left_out] @ rotation
                if not center and part.shape[1] > other.shape[1]:  # Put it back on the sphere.
                    mapped *= _norms(part[left_out]) / _norms(mapped)
                crossed[target][left_out] = mapped + means[target]
    return np.concatenate(crossed, axis=1)


def _norms(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.linalg.norm(points, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)


def _orthogonal_map(source: NDArray, target: NDArray) -> NDArray:
    """Return the (semi-)orthogonal R (D, E) that minimizes ``||source @ R - target||``."""
    product = source.T.astype(np.float64) @ target.astype(np.float64)
    left, _, right = np.linalg.svd(product, full_matrices=False)
    return (left @ right).astype(source.dtype)


def prefer_cross_fitted(net: Any, dataset: ArrayDataset) -> bool:
    """Decide whether neighbors are more reliable among cross-fitted embeddings.

    The lower Brier score decides; if both are equal, ordinary embeddings are preferred.
    Cross-fitted ones tend to win where classes overlap, ordinary ones where they have fine
    structure.
    """
    ordinary, crossed = reference_scores(net, dataset)
    return crossed < ordinary


def reference_scores(net: Any, dataset: ArrayDataset) -> tuple[float, float]:
    """Return the Brier scores of neighbors among ordinary and cross-fitted embeddings.

    Members embed samples that they have left out, and search their 5 nearest neighbors among the
    samples in other folds.
    """
    n_members, rng = net.module.n_members, np.random.default_rng(net.random_state)
    subsample = rng.permutation(_in_fold(dataset))[:MAX_REFERENCES]
    labels, folds = dataset.y[subsample], _folds(dataset)[subsample]
    embeddings = net.embed(samples_of(subset(dataset, subsample)))
    crossed = cross_fitted(embeddings, folds, n_members, center=not net.module.normalize)
    parts, crossed_parts = (np.array_split(item, n_members, 1) for item in (embeddings, crossed))
    sums, n_queries = [0.0, 0.0], 0
    for member in range(n_members):
        others = folds != member
        queries = np.flatnonzero(~others)[: max(1, MAX_SCORED // n_members)]
        n_queries += len(queries)
        for number, references in enumerate((parts[member], crossed_parts[member])):
            pair = torch.from_numpy(parts[member][queries]), torch.from_numpy(references[others])
            neighbors = labels[others][_nearest(torch.cdist(*pair), N_NEIGHBORS)]
            sums[number] += len(queries) * brier_score(neighbors, labels[queries])
    return sums[0] / n_queries, sums[1] / n_queries


def _nearest(distances: Tensor, n_neighbors: int) -> NDArray[np.int64]:
    return distances.topk(n_neighbors, largest=False, sorted=False).indices.numpy()


def brier_score(neighbors: NDArray, labels: NDArray) -> float:
    r"""Return the Brier score of the class frequencies among neighbors.

    It is the mean of :math:`\sum_c (p_c - 1[y = c])^2` [1]_, where :math:`p_c` is the frequency of
    class c among the neighbors of a sample: a proper scoring rule between 0 (best) and 2.

    Parameters
    ----------
    neighbors : int ndarray of shape (n_samples, n_neighbors)
        Labels of the neighbors of each sample.
    labels : int ndarray of shape (n_samples,)
        Labels of the samples.

    References
    ----------
    .. [1] Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather
       Review 78, 1950.

    Examples
    --------
    >>> import numpy as np
    >>> from sktriplet.training._out_of_fold import brier_score
    >>> brier_score(np.array([[0, 1], [1, 1]]), np.array([0, 1]))  # (2 * 0.5^2 + 0) / 2
    0.25
    """
    # With f_c of k neighbors in class c: sum_c p_c^2 - 2 p_y + 1.
    is_same = neighbors == labels[:, None]
    squared = (neighbors[:, :, None] == neighbors[:, None]).mean(axis=(1, 2))
    return float((squared - 2 * is_same.mean(axis=1) + 1).mean())


def _folds(dataset: ArrayDataset) -> NDArray:
    return np.asarray(dataset.folds)


def _in_fold(dataset: ArrayDataset) -> NDArray[np.int64]:
    return np.flatnonzero(_folds(dataset) != NO_FOLD)


class OutOfFoldScoring(EpochScoring):
    """Score the cross-fitted embeddings of some training samples.

    The score is the negative Brier score of their 30 nearest neighbors, or of as many as half the
    mean class size.
    """

    def __init__(self, dataset: ArrayDataset, indices: NDArray[np.int64]):
        self.dataset = dataset
        self.indices = indices
        self.labels = dataset.y[indices]
        mean_class_size = len(indices) // len(np.unique(self.labels))
        self.n_neighbors = int(np.clip(mean_class_size // 2, 1, MAX_NEIGHBORS))

    def scores(self, net: Any) -> dict[str, float]:
        """Embed the samples and score them."""
        embeddings = net.embed(samples_of(subset(self.dataset, self.indices)))
        crossed = cross_fitted(
            embeddings,
            _folds(self.dataset)[self.indices],
            net.module.n_members,
            center=not net.module.normalize,
        )
        distances = sqeuclidean(torch.from_numpy(crossed)).fill_diagonal_(torch.inf)
        nearest = _nearest(distances, self.n_neighbors)
        return {"validation_score": -brier_score(self.labels[nearest], self.labels)}


def subsample_classes(
    labels: NDArray, indices: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw samples to score; of few classes if there would be few samples of each.

    Random samples of a thousand classes would have no neighbors of their own class.
    """
    drawn = rng.permutation(indices)
    n_classes = len(np.unique(labels[indices]))
    if len(indices) > MAX_SCORED and n_classes * MIN_SCORED_PER_CLASS > MAX_SCORED:
        rank = rng.permutation(labels.max() + 1)[labels[drawn]]
        drawn = drawn[np.argsort(rank, kind="stable")]
    return drawn[:MAX_SCORED]


@contextmanager
def out_of_fold_stopping(
    net: Any, dataset: ArrayDataset, *, n_iter_no_change: int, tol: float
) -> Iterator[ArrayDataset]:
    """Let the net stop when the score of out-of-fold embeddings stops improving.

    Yields the samples to train on, which are all. The weights of the best epoch are restored at
    the end of training.
    """
    rng = np.random.default_rng(net.random_state)
    scored = subsample_classes(dataset.y, _in_fold(dataset), rng)
    scoring = OutOfFoldScoring(dataset, scored)
    with stop_early(net, scoring, n_iter_no_change=n_iter_no_change, tol=tol):
        yield dataset
