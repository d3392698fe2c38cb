"""Balanced batches: P classes with K samples each."""

from collections.abc import Iterator
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from sktriplet._parameters import Interval, validate_parameters


class BalancedBatchSampler(Sampler[NDArray[np.int64]]):
    """Sampler of batches with P classes and K samples of each, so every batch has triplets.

    Classes, and the samples of a class, are drawn without replacement until all have been
    used [1]_. No sample occurs twice in a batch, so a sample is never its own positive. A class
    with fewer than K samples contributes all of them, and more classes fill the batch; the last
    one may contribute fewer than K. Samples that are the only one of their class have no
    positive; they are drawn like the samples of one class and serve as negatives.

    Use it as the ``batch_sampler`` of a :class:`torch.utils.data.DataLoader`, or through
    :class:`~sktriplet.training.TripletNet`.

    Parameters
    ----------
    labels : array-like of shape (n_samples,)
        Class labels. There must be at least two classes, one of them with two samples.
    batch_size : int, default=128
        Maximum number of samples per batch. Small datasets have smaller batches.
    samples_per_class : int, default=8
        K, at least 2 and at most half of the batch. It is increased if there are too few
        classes to fill a batch.
    min_batches : int, default=1
        Minimum number of batches per epoch and process. Otherwise an epoch has as many batches as
        it takes to draw n_samples samples, divided among the processes.
    random_state : int, default=None
        Epoch e is drawn from ``SeedSequence([random_state, e])``, so resumed training
        continues like uninterrupted training. None uses fresh entropy.
    num_replicas : int, default=1
        Number of processes that train together, as in
        :class:`torch.utils.data.DistributedSampler`. Given the same labels and `random_state`,
        they share the batches of an epoch.
    rank : int, default=0
        Index of this process.

    Attributes
    ----------
    epoch : int
        Epoch that the next iteration draws. It increases automatically and can be set.

    Raises
    ------
    InvalidParameterError
        If a parameter is not an integer in its range.
    ValueError
        If there are fewer than two classes, if no class has two samples, or if
        ``rank >= num_replicas``.

    References
    ----------
    .. [1] Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person
       Re-Identification", arXiv:1703.07737 (2017).

    Examples
    --------
    >>> from sktriplet.training import BalancedBatchSampler
    >>> labels = ["cat", "cat", "dog", "dog", "dog", "fox", "fox", "owl"]
    >>> sampler = BalancedBatchSampler(
    ...     labels, batch_size=4, samples_per_class=2, random_state=0
    ... )
    >>> for batch in sampler:
    ...     print([labels[i] for i in batch])
    ['fox', 'fox', 'cat', 'cat']
    ['dog', 'dog', 'owl']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "batch_size": [Interval(Integral, 3, None, closed="left")],
        "samples_per_class": [Interval(Integral, 2, None, closed="left")],
        "min_batches": [Interval(Integral, 1, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
        "num_replicas": [Interval(Integral, 1, None, closed="left")],
        "rank": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        labels: ArrayLike,
        batch_size: int = 128,
        samples_per_class: int = 8,
        *,
        min_batches: int = 1,
        random_state: int | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ):
        validate_parameters(
            self,
            batch_size=batch_size,
            samples_per_class=samples_per_class,
            min_batches=min_batches,
            random_state=random_state,
            num_replicas=num_replicas,
            rank=rank,
        )
        if rank >= num_replicas:
            raise ValueError(
                "rank must be less than num_replicas. "
                f"Got rank={rank} and num_replicas={num_replicas}."
            )
        self.epoch = 0
        self.num_replicas = num_replicas
        self.rank = rank
        if random_state is None:
            random_state = int(np.random.SeedSequence().generate_state(1)[0])
        self._seed = random_state
        self._indices_by_class, has_singletons = _indices_by_class(np.asarray(labels))
        sizes = np.array([len(indices) for indices in self._indices_by_class])
        self._batch_size = batch_size
        samples_per_class = min(samples_per_class, max(2, batch_size // 2))
        if np.minimum(sizes, samples_per_class).sum() <= batch_size:
            samples_per_class = _largest_that_fits(sizes, batch_size)
        self._samples_per_class = np.minimum(sizes, samples_per_class)
        if has_singletons:  # Leave room for a pair of another class.
            self._samples_per_class[-1] = min(self._samples_per_class[-1], batch_size - 2)
        samples_per_batch = min(self._samples_per_class.sum(), batch_size)
        n_batches = int(np.ceil(sizes.sum() / samples_per_batch / num_replicas))
        self._n_batches = max(n_batches, min_batches)

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, self.epoch]))
        self.epoch += 1
        batches = self._draw_classes(self._n_batches * self.num_replicas, rng)
        sizes: list[list[int]] = [[] for _ in self._indices_by_class]
        for batch in batches:
            for number, size in batch.items():
                sizes[number].append(size)
        draws = [
            iter(_draw_without_replacement(indices, np.array(drawn, dtype=np.int64), rng))
            for indices, drawn in zip(self._indices_by_class, sizes, strict=True)
        ]
        for i, batch in enumerate(batches):
            samples = [next(draws[number]) for number in batch]
            if i % self.num_replicas == self.rank:
                yield np.concatenate(samples)

    def _draw_classes(self, n_batches: int, rng: np.random.Generator) -> list[dict[int, int]]:
        """Return, for each batch, how many samples of which classes it holds."""
        n_classes = len(self._samples_per_class)
        contributions = self._samples_per_class.tolist()
        queue: list[int] = []  # The next class is the last one.
        batches = []
        for _ in range(n_batches):
            batch: dict[int, int] = {}
            n_free, skipped = self._batch_size, []
            while len(batch) < n_classes and (n_free > 1 or len(batch) < 2):
                if not queue:
                    queue = rng.permutation(n_classes)[::-1].tolist()
                number = queue.pop()
                if number in batch:  # It is drawn for the next batch.
                    skipped.append(number)
                    continue
                batch[number] = min(contributions[number], n_free)
                n_free -= batch[number]
            queue += skipped[::-1]
            batches.append(batch)
        return batches


def _indices_by_class(labels: NDArray) -> tuple[list[NDArray[np.int64]], bool]:
    """Return the indices of each class with two or more samples, then those of all others.

    Also return whether there are any others.
    """
    if labels.ndim != 1:
        raise ValueError(f"labels must have one dimension; got shape {labels.shape}.")
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2 or counts.max() < 2:
        raise ValueError(
            "labels must hold at least two classes, one of them with at least two samples, for a "
            f"triplet to exist; got {len(counts)} class(es), the largest with "
            f"{counts.max(initial=0)} sample(s)."
        )
    by_class = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    with_pairs = [indices for indices in by_class if len(indices) > 1]
    singletons = [indices for indices in by_class if len(indices) == 1]
    if not singletons:
        return with_pairs, False
    return [*with_pairs, np.concatenate(singletons)], True


def _largest_that_fits(sizes: NDArray[np.int64], batch_size: int) -> int:
    """Return the largest K for which K samples of each class, or all, fit into a batch."""
    candidates = np.arange(1, batch_size + 1)
    totals = np.minimum(sizes[:, None], candidates).sum(axis=0)
    return int(candidates[totals <= batch_size].max())


def _draw_without_replacement(
    items: NDArray[np.int64], sizes: NDArray[np.int64], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw distinct items repeatedly, using all of them before any is used again.

    Items are taken from one random permutation after another. A draw that spans two permutations
    could repeat an item; those that it already holds move to the end of the second one.
    """
    ends = np.cumsum(sizes)
    n_items, n_drawn = len(items), int(sizes.sum())
    n_permutations = -(-n_drawn // n_items)
    permutations = rng.permuted(np.tile(items, (n_permutations, 1)), axis=1)
    for i in range(1, n_permutations):
        start = i * n_items
        draw = np.searchsorted(ends, start, side="right")
        n_held = start - (ends[draw] - sizes[draw])
        if n_held:
            is_held = np.isin(permutations[i], permutations[i - 1, -n_held:])
            permutations[i] = np.concatenate([permutations[i][~is_held], permutations[i][is_held]])
    drawn, stops = permutations.ravel(), ends.tolist()
    return [drawn[start:stop] for start, stop in pairwise([0, *stops])]
