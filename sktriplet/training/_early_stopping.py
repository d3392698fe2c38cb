"""Early stopping on the retrieval of held-out samples, classes, or a validation set."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit
from sklearn.neighbors import NearestNeighbors
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch.utils.data import Subset

from sktriplet.exceptions import OverfittingWarning
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.training._data import labels_of, samples_of
from sktriplet.training._optimizer_state import stateful_components

N_NEIGHBORS = 5
# Caps on the scored samples: scoring takes about 20 ms, an epoch over as many samples 500 ms.
MAX_QUERIES, MAX_REFERENCES = 1_000, 10_000
# The network overfits if the training score reaches the first value and exceeds the validation
# score by the second.
OVERFIT_TRAIN_SCORE, OVERFIT_GAP = 0.99, 0.1


@contextmanager
def early_stopping(
    net: Any,
    dataset: Any,
    *,
    groups: NDArray | None = None,
    validation_fraction: float,
    n_iter_no_change: int,
    tol: float,
) -> Iterator[Subset]:
    """Hold out samples, and let the net stop when their retrieval score stops improving.

    Whole groups are held out if there are any. Yields the samples to train on. The seed of the
    initialized net determines those held out. The weights of the best epoch are restored at the
    end of training.
    """
    rng, labels = np.random.default_rng(net.random_state), dataset.y
    if groups is None:
        training, held_out = stratified_holdout(labels, validation_fraction, rng)
    else:
        training, held_out = group_holdout(labels, groups, validation_fraction, net.random_state)
    with stop_early(
        net,
        _scoring(dataset, training, held_out, rng),
        n_iter_no_change=n_iter_no_change,
        tol=tol,
    ):
        yield subset(dataset, training)


@contextmanager
def validation_stopping(
    net: Any, dataset: Any, score: Callable[[], float], *, n_iter_no_change: int, tol: float
) -> Iterator[Any]:
    """Let the net stop when the score of a validation set stops improving.

    Yields the samples to train on, which are all. The weights of the best epoch are restored at
    the end of training.
    """
    with stop_early(net, FunctionScoring(score), n_iter_no_change=n_iter_no_change, tol=tol):
        yield dataset


def _scoring(
    dataset: Any,
    training: NDArray[np.int64],
    held_out: NDArray[np.int64],
    rng: np.random.Generator,
) -> "EpochScoring":
    """Return the scoring of held-out samples, of classes that are in the training set or not."""
    labels = dataset.y
    if not np.isin(labels[held_out], labels[training]).any():
        return UnseenClassScoring(subset(dataset, held_out[:MAX_REFERENCES]))
    queries = rng.permutation(held_out)[:MAX_QUERIES]
    # References of the queries' classes come first: many other classes would crowd them out.
    is_other = ~np.isin(labels[training], labels[queries])
    references = training[np.lexsort((rng.random(len(training)), is_other))][:MAX_REFERENCES]
    return RetrievalScoring(subset(dataset, queries), subset(dataset, references))


def stratified_holdout(
    labels: NDArray, fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split indices, holding out the same fraction of each class up to one sample.

    Nothing is held out of a class that would keep fewer than two samples, which form no pair.

    Returns
    -------
    training, held_out : ndarray of int
        In ascending order.

    Raises
    ------
    ValueError
        If no sample is held out.
    """
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    is_large_enough = counts - np.ceil(counts * fraction) >= 2
    shuffled = rng.permutation(len(labels))
    candidates = shuffled[is_large_enough[codes[shuffled]]]
    by_class = candidates[np.argsort(codes[candidates], kind="stable")]
    # Systematic sampling from the class-sorted order.
    positions = np.arange(rng.random() / fraction, len(by_class), 1 / fraction)
    held_out = np.sort(by_class[positions.astype(int)])
    if len(held_out) == 0:
        raise ValueError(
            "early_stopping=True requires samples to hold out, but no class in y is large enough "
            f"for validation_fraction={fraction}: the largest has {counts.max()} samples. Use a "
            "larger validation_fraction or early_stopping=False."
        )
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def group_holdout(
    labels: NDArray, groups: NDArray, fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split indices, holding out a fraction of the groups, rounded up.

    Returns
    -------
    training, held_out : ndarray of int
        The held-out indices are sorted by class, and classes are in random order.

    Raises
    ------
    ValueError
        If the training set would have no triplet, or if the held-out samples could not be scored:
        they need a class that is in the training set, or else two classes and a pair.
    """
    n_groups = len(np.unique(groups))
    settings = f"{n_groups} groups and validation_fraction={fraction}"
    if n_groups < 2:
        raise ValueError(f"groups must hold at least two groups. Got {settings}.")
    splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
    try:
        training, held_out = next(splitter.split(labels, groups=groups))
    except ValueError as error:
        raise ValueError(f"groups leaves no samples to train on. Got {settings}.") from error
    if not _has_triplets(labels[training]):
        raise ValueError(
            "groups must leave two classes to train on, one of them with two samples, when some "
            f"groups are held out. Got {settings}."
        )
    if not (np.isin(labels[held_out], labels[training]).any() or _has_triplets(labels[held_out])):
        raise ValueError(
            "The held-out groups must contain samples of a class that is in the training set, or "
            f"two classes, one of them with two samples. Got {settings}, and "
            f"{len(np.unique(labels[held_out]))} class(es) in the held-out groups: use a larger "
            "validation_fraction, or pass X_val and y_val."
        )
    rank = np.random.default_rng(seed).permutation(labels.max() + 1)
    return np.sort(training), held_out[np.argsort(rank[labels[held_out]], kind="stable")]


def _has_triplets(labels: NDArray) -> bool:
    counts = np.unique(labels, return_counts=True)[1]
    return len(counts) > 1 and counts.max() > 1


class EpochScoring(Callback):
    """Record scores after each epoch, and save the weights of the best one.

    It runs before the net's own callbacks: a checkpoint has the best weights of its epoch.
    """

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record ``validation_score`` and possibly others."""
        for name, score in self.scores(net).items():
            net.history.record(name, score)
        scores = _scores(net)
        if np.argmax(scores) == len(scores) - 1:
            components = stateful_components(net).items()
            net.best_weights_ = {name: deepcopy(item.state_dict()) for name, item in components}

    def scores(self, net: Any) -> dict[str, float]:
        """Return the scores of the current weights by name."""
        raise NotImplementedError


class FunctionScoring(EpochScoring):
    """Record the value of a function after each epoch as ``validation_score``."""

    def __init__(self, score: Callable[[], float]):
        self.score = score

    def scores(self, net: Any) -> dict[str, float]:
        """Call the function."""
        return {"validation_score": self.score()}


class UnseenClassScoring(EpochScoring):
    """Score samples of held-out classes by retrieval among themselves after each epoch.

    Records ``validation_score``, their mean average precision at R.
    """

    def __init__(self, samples: Subset):
        self.samples = samples

    def scores(self, net: Any) -> dict[str, float]:
        """Embed the samples and score them."""
        embeddings = net.embed(samples_of(self.samples))
        score = mean_average_precision_at_r_score(embeddings, labels_of(self.samples))
        return {"validation_score": float(score)}


class RetrievalScoring(EpochScoring):
    """Score held-out samples by their nearest training samples after each epoch.

    Records ``validation_score``, the precision at 5 of held-out samples that retrieve training
    samples, and ``training_score``, the same for some training samples among the others. If the
    training score is much higher at the end, an `OverfittingWarning` is issued.
    """

    def __init__(self, queries: Subset, references: Subset):
        self.queries = queries
        self.references = references

    def scores(self, net: Any) -> dict[str, float]:
        """Embed the samples and score them."""
        references = net.embed(samples_of(self.references)), labels_of(self.references)
        queries = net.embed(samples_of(self.queries)), labels_of(self.queries)
        training = references[0][: len(self.queries)], references[1][: len(self.queries)]
        return {
            "validation_score": precision_at_k(*queries, *references),
            "training_score": precision_at_k(*training, *references, exclude_self=True),
        }

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Warn if the network has overfitted."""
        epochs = [epoch for epoch in net.history[net.first_epoch_ :] if "training_score" in epoch]
        if not epochs:
            return
        training_score = epochs[-1]["training_score"]
        best_score = max(epoch["validation_score"] for epoch in epochs)
        if training_score >= OVERFIT_TRAIN_SCORE and best_score < training_score - OVERFIT_GAP:
            warnings.warn(
                f"The network has overfitted: in the last epoch, {training_score:.1%} of the "
                "nearest neighbors of training samples are of the same class, but at best "
                f"{best_score:.1%} of those of held-out samples. Classes may overlap, or labels "
                "may be wrong. Try hidden_layer_sizes=(), fewer epochs, or more data.",
                OverfittingWarning,
                stacklevel=2,
            )


def precision_at_k(
    queries: NDArray,
    query_labels: NDArray,
    references: NDArray,
    reference_labels: NDArray,
    *,
    exclude_self: bool = False,
) -> float:
    """Return the mean fraction of the nearest references that have the label of the query.

    k is 5, or the number of references with the query's label if there are fewer. Queries without
    any are ignored. With `exclude_self`, the queries are the first references, and none is its
    own neighbor.

    Examples
    --------
    >>> import numpy as np
    >>> from sktriplet.training._early_stopping import precision_at_k
    >>> references, labels = np.array([[0.0], [1.0], [2.0]]), np.array([0, 0, 1])
    >>> precision_at_k(np.array([[0.1], [1.6]]), np.array([0, 0]), references, labels)
    0.75
    """
    n_neighbors = min(N_NEIGHBORS + exclude_self, len(references))
    neighbors = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(references)
    nearest = neighbors.kneighbors(queries, return_distance=False)
    k = (reference_labels[:, None] == query_labels).sum(axis=0) - exclude_self
    if exclude_self:
        is_self = nearest == np.arange(len(queries))[:, None]
        # Among many equal samples the query may not be found; the last one is dropped then.
        is_self[~is_self.any(axis=1), -1] = True
        nearest = nearest[~is_self].reshape(len(queries), -1)
    k = k.clip(max=N_NEIGHBORS)
    is_match = reference_labels[nearest] == query_labels[:, None]
    is_match &= np.arange(nearest.shape[1]) < k[:, None]
    is_defined = k > 0
    return float((is_match.sum(axis=1)[is_defined] / k[is_defined]).mean())


class BestWeightsEarlyStopping(Callback):
    """Stop without an improvement, and restore the best weights, which `EpochScoring` saves.

    The state is in the net, so that training which resumes from a checkpoint stops at the same
    epoch: the scores in its history, and the best weights in ``best_weights_``.
    """

    def __init__(self, n_iter_no_change: int, tol: float):
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Run no epoch if a checkpoint has been loaded that was written after the last one."""
        net.is_stopped_ = self._has_to_stop(net)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Stop training as skorch does."""
        if self._has_to_stop(net):
            raise KeyboardInterrupt

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Restore the best weights."""
        scores = _scores(net)
        if net.best_weights_ is not None:
            for name, weights in net.best_weights_.items():
                stateful_components(net)[name].load_state_dict(weights)
            net.best_weights_ = None
        elif scores and np.argmax(scores) < len(scores) - 1:
            warnings.warn(
                f"The weights of the best epoch, {np.argmax(scores) + 1}, are not in the "
                "checkpoint from which training was resumed; those of the last epoch are kept. "
                "Use sktriplet.training.ResumableCheckpoint, which saves them.",
                stacklevel=2,
            )

    def _has_to_stop(self, net: Any) -> bool:
        n_iter, reference = 0, -np.inf
        for score in _scores(net):
            n_iter += 1
            if score > reference + self.tol:
                n_iter, reference = 0, score
        return n_iter >= self.n_iter_no_change


def _scores(net: Any) -> list[float]:
    name = "validation_score"
    return [epoch[name] for epoch in net.history[net.first_epoch_ :] if name in epoch]


@contextmanager
def stop_early(
    net: Any, scoring: EpochScoring, *, n_iter_no_change: int, tol: float
) -> Iterator[None]:
    """Score after each epoch, stop without an improvement, and restore the best weights.

    Among epochs with the same score, the first is the best.
    """
    stopping = BestWeightsEarlyStopping(n_iter_no_change, tol)
    with net.temporary_callbacks(first=scoring, last=stopping):
        yield


def subset(dataset: Any, indices: NDArray[np.int64]) -> Subset:
    """Return the samples at some indices."""
    return Subset(dataset, indices)  # type: ignore[arg-type]  # torch declares a Sequence
