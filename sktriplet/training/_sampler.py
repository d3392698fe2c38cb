"""P classes x K samples a batch: rows are *sampled* here, before the forward pass.

Triplets are *mined* after it, in `sktriplet.mining`.
"""

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler


class BalancedBatchSampler(Sampler[NDArray[np.int64]]):
    """Batches of a few rows from each of a few classes, so that every batch has triplets.

    A batch holds P classes and K rows of each. Classes are dealt like cards, and so are
    the rows of a class: each comes once before any comes again, and no row stands twice
    in a batch, so that a row is never its own positive. A class with fewer than K rows
    gives all it has. Classes with a single row have no positive pair and are dealt as if
    they were one class together; their rows serve as negatives.

    Use it as the ``batch_sampler`` of a :class:`torch.utils.data.DataLoader`, or through
    :class:`sktriplet.training.TripletNet`.

    Parameters
    ----------
    labels : array-like of shape (n_rows,)
        At least two classes, one of them with two rows.

    batch_size : int, default=128
        The rows that a batch should hold. Small data make smaller batches.

    samples_per_class : int, default=8
        K, at least 2. Where there are too few classes to fill a batch, K is raised until
        they do; where classes are smaller than K, P is.

    min_batches : int, default=1
        An epoch is as many batches as it takes to draw as many rows as there are, shared
        among the processes, but no fewer than this.

    random_state : int, default=None
        Epoch e is drawn from ``SeedSequence([random_state, e])``: a resumed run goes on
        as the uninterrupted one would. None takes fresh entropy.

    num_replicas, rank : int, default=1, 0
        How many processes train together, and which of them this is, as in
        :class:`torch.utils.data.DistributedSampler`. They share the batches of an epoch, given
        the same labels and the same `random_state`; min_batches is of each.

    Attributes
    ----------
    epoch : int
        The epoch that the next iteration draws. Counts by itself, and may be set.

    Raises
    ------
    ValueError
        If there are fewer than two classes, no class has two rows, a number is not an integer
        or too small, or there is no such rank.

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
    ...     print([labels[row] for row in batch])
    ['fox', 'fox', 'cat', 'cat']
    ['dog', 'dog', 'owl']
    ['owl', 'fox', 'fox']
    """

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
        _check_integer("rank", rank, 0)
        _check_integer("num_replicas", num_replicas, 1)
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
        _check_integer("batch_size", batch_size, 3)
        _check_integer("samples_per_class", samples_per_class, 2)
        _check_integer("min_batches", min_batches, 1)
        _check_integer("random_state", random_state, 0)
        self._seed = random_state
        self._members = _members(np.asarray(labels))
        sizes = np.array([len(rows) for rows in self._members])

        usual_size = np.minimum(sizes, samples_per_class).mean()
        self._classes_per_batch = min(max(2, int(batch_size / usual_size)), len(sizes))
        if self._classes_per_batch == len(sizes):
            samples_per_class = max(samples_per_class, batch_size // len(sizes))
        self._rows_per_class = np.minimum(sizes, samples_per_class)

        rows_per_batch = self._rows_per_class.mean() * self._classes_per_batch
        n_batches = int(np.ceil(sizes.sum() / rows_per_batch / num_replicas))
        self._n_batches = max(n_batches, min_batches)

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, self.epoch]))
        self.epoch += 1
        n_batches = self._n_batches * self.num_replicas
        classes = _deal(len(self._members), self._classes_per_batch, n_batches, rng)
        visits = np.bincount(classes.ravel(), minlength=len(self._members))
        hands = [
            iter(rows[_deal(len(rows), rows_per_visit, n_visits, rng)])
            for rows, rows_per_visit, n_visits in zip(
                self._members, self._rows_per_class, visits, strict=True
            )
        ]
        for number, batch_classes in enumerate(classes):
            rows = [next(hands[c]) for c in batch_classes]
            if number % self.num_replicas == self.rank:
                yield np.concatenate(rows)


def _check_integer(name: str, given: Any, least: int) -> None:
    if isinstance(given, bool) or not isinstance(given, Integral) or given < least:
        raise ValueError(f"{name} must be an integer, at least {least}; got {given!r}.")


def _members(labels: NDArray) -> list[NDArray[np.int64]]:
    """Rows of each class with two rows or more, then the rows of all others together."""
    if labels.ndim != 1:
        raise ValueError(f"labels must have one dimension; got shape {labels.shape}.")
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2 or counts.max() < 2:
        raise ValueError(
            "labels must hold at least two classes, one of them with two rows or more, so "
            "that a triplet exists; got "
            f"{len(counts)} class(es), the largest of {counts.max(initial=0)} row(s)."
        )
    by_class = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    members = [rows for rows in by_class if len(rows) > 1]
    singletons = [rows for rows in by_class if len(rows) == 1]
    return [*members, np.concatenate(singletons)] if singletons else members


def _deal(
    n_cards: int, hand_size: int, n_hands: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal hands of distinct cards, shuffling a new deck whenever one is used up.

    Returns
    -------
    ndarray of shape (n_hands, hand_size)
        Every card is dealt once before any is dealt again, but for those that stand in
        the hand at which a new deck begins: they go to that deck's end.
    """
    n_decks = -(-n_hands * hand_size // n_cards)
    decks = rng.permuted(np.tile(np.arange(n_cards), (n_decks, 1)), axis=1)
    for deck in range(1, n_decks):
        n_held = deck * n_cards % hand_size
        if n_held:
            held = np.isin(decks[deck], decks[deck - 1, -n_held:])
            decks[deck] = np.concatenate([decks[deck][~held], decks[deck][held]])
    return decks.ravel()[: n_hands * hand_size].reshape(n_hands, hand_size)
