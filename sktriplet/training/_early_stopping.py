"""What happens between epochs and batches, as skorch callbacks.

The learning rate's schedule, the held-out rows that end a training early, and the bridge to
scikit-learn's own callbacks. scikit-learn has these from 1.9 on; below that the estimator
works the same, without ``set_callbacks``.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from skorch.utils import noop
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from torch.utils.data import Subset

from sktriplet.exceptions import MemorizationWarning
from sktriplet.training._data import labels_of, rows_of
from sktriplet.training._distributed import unwrapped
from sktriplet.training._sklearn_callbacks import _attached

# So many nearest neighbours of a held-out row are looked at.
N_NEIGHBORS = 5


# Held-out rows, and training rows around them, are never more: a look at them takes some
# 20 ms, an epoch over so many rows half a second.
MAX_QUERIES, MAX_REFERENCES = 1_000, 10_000


# Training rows are known by heart if so many of their neighbours share their class, and of
# held-out rows' neighbours fewer by so much.
MEMORIZED, MEMORIZED_GAP = 0.99, 0.1


class HeldOutPrecision(Callback):
    """Look after each epoch how many neighbours of held-out rows are of their class.

    Records ``validation_score``: the part of a held-out row's 5 nearest training rows
    that have its label, averaged over the held-out rows. Where a class has fewer
    training rows than that, as many neighbours are looked at. ``training_score`` is the
    same of some training rows among the others: where it is much higher, the network
    knows its rows by heart, and a `MemorizationWarning` says so in the end.

    Parameters
    ----------
    queries, references : ArrayDataset or Subset
        Held-out rows and training rows.
    """

    def __init__(self, queries: Subset, references: Subset):
        self.queries = queries
        self.references = references

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Embed both and record the scores."""
        known = net.embed(rows_of(self.references)), labels_of(self.references)
        queries = net.embed(rows_of(self.queries)), labels_of(self.queries)
        score = precision_among_nearest(*queries, *known)
        net.history.record("validation_score", score)
        some = known[0][: len(self.queries)], known[1][: len(self.queries)]
        score = precision_among_nearest(*some, *known, are_first=True)
        net.history.record("training_score", score)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Warn if the network has learned its rows rather than their classes."""
        seen = [epoch for epoch in net.history[net.first_epoch_ :] if "training_score" in epoch]
        if not seen:
            return
        on_training = seen[-1]["training_score"]
        on_others = max(epoch["validation_score"] for epoch in seen)
        if on_training >= MEMORIZED and on_others < on_training - MEMORIZED_GAP:
            warnings.warn(
                f"The network has memorized its training rows: {on_training:.1%} of their nearest "
                f"neighbours share their class in the last epoch, and at best {on_others:.1%} of "
                "those of held-out rows. Classes may overlap, or labels may be wrong. Try "
                "hidden_layer_sizes=(), fewer epochs, or more data.",
                MemorizationWarning,
                stacklevel=2,
            )


def precision_among_nearest(
    queries: NDArray,
    query_labels: NDArray,
    references: NDArray,
    reference_labels: NDArray,
    *,
    are_first: bool = False,
) -> float:
    """Return the mean part of each query's nearest references that have its label.

    5 are looked at, or as many as there are references of the query's label. Queries without
    any are left out. With `are_first` the queries are the first references, and none is its
    own neighbour.

    Examples
    --------
    >>> import numpy as np
    >>> from sktriplet.training._early_stopping import precision_among_nearest
    >>> references, labels = np.array([[0.0], [1.0], [2.0]]), np.array([0, 0, 1])
    >>> precision_among_nearest(np.array([[0.1], [1.6]]), np.array([0, 0]), references, labels)
    0.75
    """
    n_neighbors = min(N_NEIGHBORS + are_first, len(references))
    neighbors = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(references)
    nearest = neighbors.kneighbors(queries, return_distance=False)
    n_wanted = (reference_labels[:, None] == query_labels).sum(axis=0) - are_first
    if are_first:
        is_itself = nearest == np.arange(len(queries))[:, None]
        # Among many equal rows it may not be found; the last one gives way then.
        is_itself[~is_itself.any(axis=1), -1] = True
        nearest = nearest[~is_itself].reshape(len(queries), -1)
    n_wanted = n_wanted.clip(max=N_NEIGHBORS)
    right = reference_labels[nearest] == query_labels[:, None]
    right &= np.arange(nearest.shape[1]) < n_wanted[:, None]
    has_any = n_wanted > 0
    return float((right.sum(axis=1)[has_any] / n_wanted[has_any]).mean())


def hold_out(
    labels: NDArray, fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split row numbers so that each class gives the same fraction, up to a row.

    A class that would be left with fewer than two rows, which make no pair, gives none.

    Returns
    -------
    training, held_out : ndarray of int
        In rising order.

    Raises
    ------
    ValueError
        If nothing is held out.
    """
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    can_give = counts - np.ceil(counts * fraction) >= 2
    shuffled = rng.permutation(len(labels))
    givers = shuffled[can_give[codes[shuffled]]]
    by_class = givers[np.argsort(codes[givers], kind="stable")]
    # Every so-many-th card of the deck in which the classes lie one behind the other.
    places = np.arange(rng.random() / fraction, len(by_class), 1 / fraction)
    held_out = np.sort(by_class[places.astype(int)])
    if len(held_out) == 0:
        raise ValueError(
            "early_stopping=True needs rows to hold out, and no class of y has enough of them "
            f"to spare a fraction of {fraction}: the largest has {counts.max()} rows. Use a "
            "larger validation_fraction, or early_stopping=False."
        )
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


@contextmanager
def stopped_early(
    net: NeuralNet,
    dataset: Any,
    *,
    fraction: float,
    patience: int,
    tol: float,
) -> Iterator[Subset]:
    """Hold out some rows and let the net stop when their neighbours get no better.

    The weights of the best epoch are put back when the training ends.

    Parameters
    ----------
    net : NeuralNet
        Initialized. Its seed draws the rows.

    dataset : ArrayDataset

    fraction : float
        Of the rows of each class, to hold out.

    patience, tol : int, float
        Stop after so many epochs in a row without a gain of more than ``tol``.

    Yields
    ------
    Subset
        The rows to train on.
    """
    rng, labels = np.random.default_rng(net.random_state), dataset.y
    training, held_out = hold_out(labels, fraction, rng)
    queries = rng.permutation(held_out)[:MAX_QUERIES]
    # Rows of the queries' classes first: of very many classes, others would crowd them out.
    is_other = ~np.isin(labels[training], labels[queries])
    references = training[np.lexsort((rng.random(len(training)), is_other))][:MAX_REFERENCES]
    score = HeldOutPrecision(_part(dataset, queries), _part(dataset, references))
    stop = StopEarly(
        monitor="validation_score",
        lower_is_better=False,
        patience=patience,
        threshold=tol,
        threshold_mode="abs",
        load_best=True,
        sink=noop,
    )
    with _attached(net, first=score, last=stop):
        yield _part(dataset, training)


class StopEarly(EarlyStopping):
    """skorch's, with the weights of the best epoch, however small its gain.

    They are put back even where their network was wrapped when they were kept: accelerate's
    wrapper is around it in training, and off before callbacks hear of the end.
    """

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget an earlier training."""
        super().on_train_begin(net, **kwargs)
        self.best_score_ = -np.inf

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the weights if none were better, and count epochs without a gain."""
        epoch = net.history[-1]
        if epoch[self.monitor] > self.best_score_:
            self.best_score_, self.best_epoch_ = epoch[self.monitor], epoch["epoch"]
            self.best_model_weights_ = deepcopy(net.module_.state_dict())
        super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Put the best weights back."""
        if self.best_model_weights_ is not None and net.module_ is unwrapped(net.module_):
            consume_prefix_in_state_dict_if_present(self.best_model_weights_, "module.")
        super().on_train_end(net, **kwargs)


def _part(dataset: Any, rows: NDArray[np.int64]) -> Subset:
    return Subset(dataset, rows)  # type: ignore[arg-type]  # torch asks for a Sequence
