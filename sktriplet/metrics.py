r"""How good an embedding is for retrieval.

Each row of ``embeddings`` is a query. It searches the other rows or, where there is a
``reference``, that, nearest first. Rows at the same distance are ordered by their index.
A match is a row of the query's class; R is how many matches a query has.

Three scores say how well that went, in the definitions of Musgrave et al. [1]_: whether a
match is among the k nearest (recall at k), which part of the R nearest are matches
(R-precision), and how early the matches come among these (mean average precision at R).
Each has a scorer of the same name for ``scoring=`` of
:class:`~sklearn.model_selection.GridSearchCV` and
:func:`~sklearn.model_selection.cross_validate`; it needs an estimator with ``transform``.

`detection_identification_rate_score` is for searches that may also find nobody.

Scores depend on how many rows and classes there are to search: compare like with like.

References
----------
.. [1] Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.preprocessing import normalize
from sklearn.utils import check_array, check_consistent_length, column_or_1d, gen_batches

# Memory for one chunk of queries: small enough for any machine, large enough for BLAS.
CHUNK_BYTES = 2**26
# How many numbers at a time stay in a processor's cache.
CACHED = 2**16
# How many rows beyond those asked for are looked at, in case they tie with the last one.
PADDING = 16
# Up to so many ranks whose order counts, single precision leaves few near ties to decide.
MAX_RANKS_IN_SINGLE = 1000
# Distances are shifted and scaled to lie between 1 and this, where floats have even gaps.
EXCLUDED = np.float32(2 - 2**-23)
EXCLUDED_KEY = np.uint64(2**64 - 2**41)


def recall_at_k_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 1,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
) -> float:
    """Recall at k: the part of the queries that have a match among their k nearest.

    At ``k=1`` this is the accuracy of the nearest neighbour, also called precision at 1
    and, in re-identification, the rank-1 rate; at other k, the cumulative match
    characteristic (CMC).

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, n_components)
        The queries, and unless there is a ``reference``, what they search: a row is
        never its own match.

    y : array-like of shape (n_rows,)
        Their classes.

    k : int, default=1

    reference : array-like of shape (n_reference_rows, n_components), default=None
        What the queries search instead. All of it counts, also rows that are equal to
        the query.

    reference_y : array-like of shape (n_reference_rows,), default=None
        Their classes. Needed with ``reference``.

    groups : array-like of shape (n_rows,), default=None
        Matches of the query's own group are left out, as if they were not there; other
        rows of that group stay. With cameras as groups this is the rule of
        re-identification.

    reference_groups : array-like of shape (n_reference_rows,), default=None
        Needed with both ``groups`` and ``reference``.

    metric : {"euclidean", "cosine"}, default="euclidean"
        As in :func:`sklearn.metrics.pairwise_distances`. On the unit sphere they agree.

    Returns
    -------
    float
        Between 0 and 1, over the queries that have a match; NaN, with an
        ``UndefinedMetricWarning``, if none has.

    See Also
    --------
    mean_average_precision_at_r_score : Looks at all matches.

    Examples
    --------
    >>> from sktriplet.metrics import recall_at_k_score
    >>> embeddings = [[0.0], [1.0], [3.0], [7.0]]
    >>> y = ["a", "b", "a", "b"]
    >>> recall_at_k_score(embeddings, y)
    0.0
    >>> recall_at_k_score(embeddings, y, k=2)
    0.75
    """
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be an integer >= 1. Got {k!r}.")
    search = _Search.of(
        embeddings,
        y,
        reference,
        reference_y,
        groups,
        reference_groups,
        metric,
        name=f"Recall@{k}",
        ordered=False,
    )
    return search.mean_over_queries(
        lambda relevant, _: relevant.any(axis=1), np.full(len(search.n_matches), int(k))
    )


def r_precision_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
) -> float:
    """R-precision: which part of the R nearest are matches, if R are to be found.

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, n_components)

    y : array-like of shape (n_rows,)

    reference, reference_y, groups, reference_groups, metric
        As in :func:`recall_at_k_score`.

    Returns
    -------
    float
        Between 0 and 1, the mean over the queries that have a match; NaN, with an
        ``UndefinedMetricWarning``, if none has.

    Examples
    --------
    The two outer rows of "a" have one of their two matches nearest, the inner one both:

    >>> from sktriplet.metrics import r_precision_score
    >>> r_precision_score([[0.0], [1.0], [2.5], [3.6]], ["a", "a", "a", "b"])
    0.833...
    """
    search = _Search.of(
        embeddings,
        y,
        reference,
        reference_y,
        groups,
        reference_groups,
        metric,
        name="R-precision",
        ordered=False,
    )
    return search.mean_over_queries(
        lambda relevant, n_matches: relevant.sum(axis=1) / n_matches, search.n_matches
    )


def mean_average_precision_at_r_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
) -> float:
    r"""Mean average precision at R (MAP@R).

    For a query with R matches to be found,

    .. math::
        \frac{1}{R} \sum_{i=1}^{R} P(i),

    where P(i) is the precision among the i nearest if the i-th is a match, and 0 if not.
    The score is the mean over the queries; 1 means that each class stands together and
    apart [1]_.

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, n_components)

    y : array-like of shape (n_rows,)

    reference, reference_y, groups, reference_groups, metric
        As in :func:`recall_at_k_score`.

    Returns
    -------
    float
        Between 0 and 1, the mean over the queries that have a match; NaN, with an
        ``UndefinedMetricWarning``, if none has.

    References
    ----------
    .. [1] Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.

    Examples
    --------
    >>> from sktriplet.metrics import mean_average_precision_at_r_score
    >>> embeddings = [[0.0], [1.0], [10.0], [11.0]]
    >>> mean_average_precision_at_r_score(embeddings, ["a", "a", "b", "b"])
    1.0
    >>> mean_average_precision_at_r_score(embeddings, ["a", "b", "a", "b"])
    0.0
    """
    search = _Search.of(
        embeddings,
        y,
        reference,
        reference_y,
        groups,
        reference_groups,
        metric,
        name="MAP@R",
        ordered=True,
    )

    def average_precision(relevant: NDArray[np.bool_], n_matches: NDArray[np.int64]) -> NDArray:
        precision = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
        return np.einsum("ij,ij->i", precision, relevant) / n_matches

    return search.mean_over_queries(average_precision, search.n_matches)


def detection_identification_rate_score(
    y: ArrayLike,
    identities: ArrayLike,
    distances: ArrayLike,
    *,
    enrolled: ArrayLike,
    target_fpir: float = 0.05,
) -> float:
    """Measure how many are identified where so many strangers may be.

    This is the detection and identification rate at a false positive identification rate
    (DIR at FPIR) [1]_. Rows of classes that are not enrolled are strangers. The threshold is
    the largest at which no larger part of them than ``target_fpir`` is identified as
    someone. The score is the part of the other rows that are identified at that
    threshold, and rightly.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        What the rows are.

    identities : array-like of shape (n_rows,)
        The class of the nearest of the enrolled, however far.

    distances : array-like of shape (n_rows,)
        And how far it is.

    enrolled : array-like of shape (n_classes,)

    target_fpir : float, default=0.05

    Returns
    -------
    float
        Between 0 and 1; NaN, with an ``UndefinedMetricWarning``, if there are only
        strangers or none.

    References
    ----------
    .. [1] Phillips, Grother and Micheals, "Evaluation Methods in Face Recognition",
       Handbook of Face Recognition, 2011.

    Examples
    --------
    The first stranger, at 2, may not be identified, and so neither is the last "b":

    >>> from sktriplet.metrics import detection_identification_rate_score
    >>> detection_identification_rate_score(
    ...     ["a", "a", "b", "b", "x", "y"],
    ...     ["a", "b", "b", "b", "a", "b"],
    ...     [1.0, 1.0, 1.5, 3.0, 2.0, 4.0],
    ...     enrolled=["a", "b"],
    ... )
    0.5
    """
    if not 0 <= target_fpir < 1:
        raise ValueError(f"target_fpir must be a number >= 0 and < 1. Got {target_fpir!r}.")
    check_consistent_length(y, identities, distances)
    labels, named, far = (column_or_1d(part) for part in (y, identities, distances))
    is_enrolled = np.isin(labels, column_or_1d(enrolled))
    if is_enrolled.all() or not is_enrolled.any():
        warnings.warn(
            "The detection and identification rate is undefined and set to NaN: "
            f"{'no row' if is_enrolled.all() else 'every row'} is of a class not enrolled.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")
    strangers = np.sort(far[~is_enrolled])
    rejected = strangers[int(target_fpir * len(strangers))]
    identified = (named == labels) & (far < rejected)
    return float(np.mean(identified[is_enrolled]))


def recall_at_k_scorer(
    estimator: Any, X: Any, y: ArrayLike, *, k: int = 1, metric: str = "euclidean"
) -> float:
    """Score ``estimator.transform(X)`` with :func:`recall_at_k_score`.

    Parameters
    ----------
    estimator : fitted transformer

    X : array-like of shape (n_rows, ...)

    y : array-like of shape (n_rows,)

    k : int, default=1
        Another one in a search: ``scoring=functools.partial(recall_at_k_scorer, k=5)``.

    metric : {"euclidean", "cosine"}, default="euclidean"

    Returns
    -------
    float
    """
    return recall_at_k_score(estimator.transform(X), y, k=k, metric=metric)


def r_precision_scorer(estimator: Any, X: Any, y: ArrayLike, *, metric: str = "euclidean") -> float:
    """Score ``estimator.transform(X)`` with :func:`r_precision_score`.

    Parameters
    ----------
    estimator : fitted transformer

    X : array-like of shape (n_rows, ...)

    y : array-like of shape (n_rows,)

    metric : {"euclidean", "cosine"}, default="euclidean"

    Returns
    -------
    float
    """
    return r_precision_score(estimator.transform(X), y, metric=metric)


def mean_average_precision_at_r_scorer(
    estimator: Any, X: Any, y: ArrayLike, *, metric: str = "euclidean"
) -> float:
    """Score ``estimator.transform(X)`` with :func:`mean_average_precision_at_r_score`.

    Parameters
    ----------
    estimator : fitted transformer

    X : array-like of shape (n_rows, ...)

    y : array-like of shape (n_rows,)

    metric : {"euclidean", "cosine"}, default="euclidean"

    Returns
    -------
    float

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    >>> from sklearn.model_selection import cross_validate
    >>> from sktriplet.metrics import mean_average_precision_at_r_scorer
    >>> from sktriplet.metrics import recall_at_k_scorer
    >>> scores = cross_validate(
    ...     LinearDiscriminantAnalysis(),
    ...     *load_iris(return_X_y=True),
    ...     scoring={
    ...         "map_at_r": mean_average_precision_at_r_scorer,
    ...         "recall_at_1": recall_at_k_scorer,
    ...     },
    ... )
    >>> f"{scores['test_map_at_r'].mean():.1f} {scores['test_recall_at_1'].mean():.1f}"
    '0.9 0.9'
    """
    return mean_average_precision_at_r_score(estimator.transform(X), y, metric=metric)


@dataclass
class _Search:
    """Queries, what they search, and which of it must be found.

    The order of the neighbours is that of distances in double precision, computed from
    differences, ties by index. Distances from a matrix product, which are many times faster,
    decide all of it but near ties: where two candidates are nearer to each other than
    ``tolerance``, and one is a match and the other is not, the exact distances are asked.
    """

    queries: NDArray
    references: NDArray
    query_labels: NDArray[np.intp]
    reference_labels: NDArray[np.intp]
    query_exclusions: NDArray[np.intp] | None
    reference_exclusions: NDArray[np.intp] | None
    searches_itself: bool
    metric: str
    name: str
    ordered: bool

    @classmethod
    def of(
        cls,
        embeddings: ArrayLike,
        y: ArrayLike,
        reference: ArrayLike | None,
        reference_y: ArrayLike | None,
        groups: ArrayLike | None,
        reference_groups: ArrayLike | None,
        metric: str,
        *,
        name: str,
        ordered: bool,
    ) -> "_Search":
        """Check the arguments of a score and number the classes and groups.

        ``ordered=False`` asks which are the nearest only, not in which order they come.
        """
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric must be 'euclidean' or 'cosine'. Got {metric!r}.")
        queries = _checked_rows(embeddings, "embeddings")
        labels = _checked_column(y, "y", queries, "embeddings")
        kinds = _checked_column(groups, "groups", queries, "embeddings")
        searches_itself = reference is None
        if searches_itself:
            _check_absent(reference_y, "reference_y")
            _check_absent(reference_groups, "reference_groups")
            references, reference_labels, reference_kinds = queries, labels, kinds
        else:
            references = _checked_rows(reference, "reference")
            if references.shape[1] != queries.shape[1]:
                raise ValueError(
                    f"reference must have as many columns as embeddings, {queries.shape[1]}. "
                    f"Got {references.shape[1]}."
                )
            if reference_y is None:
                raise ValueError("reference needs reference_y, the classes of its rows. Got None.")
            if (groups is None) != (reference_groups is None):
                raise ValueError(
                    "groups and reference_groups go together where there is a reference. "
                    f"Got only {'reference_groups' if groups is None else 'groups'}."
                )
            reference_labels = _checked_column(reference_y, "reference_y", references, "reference")
            reference_kinds = _checked_column(
                reference_groups, "reference_groups", references, "reference"
            )
        labels, reference_labels = _number_alike(labels, reference_labels, "y")
        exclusions: tuple[NDArray | None, NDArray | None] = None, None
        if kinds is not None:
            numbers, reference_numbers = _number_alike(kinds, reference_kinds, "groups")
            n_groups = 1 + max(numbers.max(), reference_numbers.max())
            exclusions = (
                labels * n_groups + numbers,
                reference_labels * n_groups + reference_numbers,
            )
        if metric == "cosine":
            queries = normalize(queries)
            references = queries if searches_itself else normalize(references)
        return cls(
            queries,
            references,
            labels,
            reference_labels,
            *exclusions,
            searches_itself=searches_itself,
            metric=metric,
            name=name,
            ordered=ordered,
        )

    def __post_init__(self) -> None:
        self.n_matches = _count(self.query_labels, self.reference_labels)
        if self.query_exclusions is not None and self.reference_exclusions is not None:
            self.n_matches = self.n_matches - _count(
                self.query_exclusions, self.reference_exclusions
            )
        elif self.searches_itself:
            self.n_matches = self.n_matches - 1

    def mean_over_queries(self, score: Any, n_ranks: NDArray[np.int64]) -> float:
        """Return the mean of a score over the queries that have a match.

        Parameters
        ----------
        score : callable
            Takes, for some queries, whether their i-th nearest is a match, for each i,
            and how many matches they have.

        n_ranks : ndarray of shape (n_queries,)
            How many of the nearest count.
        """
        queries = np.flatnonzero(self.n_matches)
        if not len(queries):
            if self.searches_itself and self.query_exclusions is None:
                reason = "no row of y has another of its class"
            elif self.searches_itself:
                reason = "no row of y has another of its class outside its group"
            else:
                reason = "no row of y has a match in reference_y"
            warnings.warn(
                f"{self.name} is undefined and set to NaN: {reason}.",
                UndefinedMetricWarning,
                stacklevel=3,
            )
            return float("nan")
        # Like numbers of ranks side by side, so that one class with many rows costs no other.
        queries = queries[np.argsort(n_ranks[queries], kind="stable")]
        scores = [
            score(relevant, self.n_matches[chunk])
            for chunk, relevant in self._relevance_by_rank(queries, n_ranks)
        ]
        return float(np.mean(np.concatenate(scores)))

    def _relevance_by_rank(
        self, queries: NDArray[np.intp], n_ranks: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
        """Yield queries, a chunk at a time, with whether their i-th nearest is a match."""
        in_double = self.ordered and n_ranks[queries].max() > MAX_RANKS_IN_SINGLE
        left, right, summand, error = self._factors(np.float64 if in_double else np.float32)
        # A key holds a distance in its upper bits, and in the lower ones which row it is to.
        n_bits = max(12, int(len(right) - 1).bit_length())
        tolerance = np.uint64(np.ceil(2 * error * 2.0**64) + 2 ** (n_bits + 1))
        n_done = 0
        while n_done < len(queries):
            bytes_a_query = right.itemsize * len(right) + 10 * min(
                len(right), n_ranks[queries].max()
            )
            chunk = queries[n_done : n_done + max(1, int(CHUNK_BYTES // bytes_a_query))]
            n_done += len(chunk)
            distances = left[chunk] @ right.T
            distances += summand
            self._exclude(distances, chunk)
            width = min(len(right), n_ranks[chunk].max() + PADDING)
            relevant = np.empty((len(chunk), width), dtype=bool)
            nearest = _smallest(distances, width, n_bits)
            for part in gen_batches(len(chunk), max(1, CACHED // width)):
                relevant[part], settled = self._settle(
                    nearest[part], n_bits, chunk[part], n_ranks[chunk[part]], tolerance
                )
                for row in part.start + np.flatnonzero(~settled):
                    everything = _smallest(distances[[row]], len(right), n_bits)
                    relevant[row] = self._settle(
                        everything, n_bits, chunk[[row]], n_ranks[chunk[[row]]], tolerance
                    )[0][0, :width]
            relevant = relevant[:, : n_ranks[chunk].max()]
            relevant &= np.arange(relevant.shape[1]) < n_ranks[chunk, None]
            yield chunk, relevant

    def _factors(self, dtype: type) -> tuple[NDArray, NDArray, NDArray, float]:
        """Return what gives distances by a product and a sum, and how wrong they may be.

        Distances are shifted by a constant of each query, squared where Euclidean, and scaled
        to lie between 1 and 2.
        """
        left, right = self.queries, self.references
        if self.metric == "euclidean":
            centre = right.mean(axis=0)
            left, right = left - centre, right - centre
            largest = max(np.abs(left).max(), np.abs(right).max())
            if largest > 0:
                scale = 2.0 ** -np.ceil(np.log2(largest))
                left, right = left * scale, right * scale
        left, right = left.astype(dtype), right.astype(dtype)
        squares = [np.einsum("ij,ij->i", part, part, dtype=np.float64) for part in (left, right)]
        largest_left, largest_right = (part.max() for part in squares)
        both = (np.sqrt(largest_left) + np.sqrt(largest_right)) ** 2
        # A power of two, so that to divide by it is exact, which no distance is half of.
        span = 2.0 ** np.ceil(np.log2(2 * both)) if both > 0 else 1.0
        if self.metric == "euclidean":
            summand = squares[1] + largest_left
        else:
            summand = np.full(len(right), both / 2)
        summand = (1.25 + summand / span).astype(dtype)
        # With u half an epsilon: a product is off by d u times both norms, which is at most a
        # quarter of the square of their sum and counts twice; rounding the rows adds 2 u of it,
        # the sum and its terms, below 2, are off by u each, and exact distances by a double's d.
        u, n_columns = np.finfo(dtype).eps / 2, left.shape[1]
        error = ((n_columns / 2 + 8) * both / span + 4) * u
        error += (n_columns + 4) * np.finfo(float).eps
        return left * dtype(-2 / span), right, summand, float(error)

    def _exclude(self, distances: NDArray, chunk: NDArray[np.intp]) -> None:
        """Put what must not be found at the end."""
        if self.query_exclusions is not None:
            same = self.query_exclusions[chunk, None] == self.reference_exclusions
            distances[same] = EXCLUDED
        elif self.searches_itself:
            distances[np.arange(len(chunk)), chunk] = EXCLUDED

    def _settle(
        self,
        nearest: NDArray[np.uint64],
        n_bits: int,
        chunk: NDArray[np.intp],
        n_ranks: NDArray[np.int64],
        tolerance: np.uint64,
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Say which of the nearest are matches, in the exact order.

        Returns
        -------
        relevant : ndarray of shape (n_queries, width)

        settled : ndarray of shape (n_queries,)
            False where more of the nearest are needed to say so.
        """
        width = nearest.shape[1]
        columns = (nearest & np.uint64(2**n_bits - 1)).view(np.int64)
        relevant = self.reference_labels.take(columns) == self.query_labels[chunk, None]
        relevant &= nearest < EXCLUDED_KEY
        # A run of candidates, each too near the one before, may have any order.
        opens_run = np.ones(nearest.shape, dtype=bool)
        np.greater(nearest[:, 1:] - nearest[:, :-1], tolerance, out=opens_run[:, 1:])
        settled = np.ones(len(nearest), dtype=bool)
        if width < len(self.reference_labels):
            settled = width - 1 - opens_run[:, ::-1].argmax(axis=1) >= n_ranks
        matters = ~opens_run
        matters[:, 1:] &= relevant[:, 1:] != relevant[:, :-1]
        matters &= settled[:, None]
        mixed = np.flatnonzero(matters)
        if len(mixed):
            bounds = np.append(np.flatnonzero(opens_run), opens_run.size)
            runs = np.searchsorted(bounds, mixed, side="right") - 1
            runs = runs[np.diff(runs, prepend=-1) > 0]
            starts, ends = bounds[runs], bounds[runs + 1]
            row = starts // width
            counts = starts - row * width < n_ranks[row]
            if not self.ordered:
                counts &= ends - row * width > n_ranks[row]
            starts, lengths = starts[counts], (ends - starts)[counts]
            places = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
            places += np.arange(len(places))
            found = columns[places // width, places % width]
            exact = self._exact_distances(chunk[places // width], found)
            order = np.lexsort((found, exact, np.repeat(starts, lengths)))
            relevant.ravel()[places] = relevant.ravel()[places[order]]
        return relevant, settled

    def _exact_distances(
        self, queries: NDArray[np.intp], references: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the distance of each query to its reference, squared where Euclidean."""
        distances = np.empty(len(queries))
        step = max(1, CACHED // self.queries.shape[1])
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            left, right = self.queries[queries[part]], self.references[references[part]]
            if self.metric == "cosine":
                distances[part] = 1 - np.einsum("ij,ij->i", left, right)
            else:
                left -= right
                distances[part] = np.einsum("ij,ij->i", left, left)
        return distances


def _smallest(distances: NDArray, n: int, n_bits: int) -> NDArray[np.uint64]:
    """Return the n smallest of each row as integers in the order of distance and column.

    The distances are between 1 and 2. The mantissa of a double moves to the upper end of its
    bits, and the lowest make room for the column.
    """
    n_rows, n_columns = distances.shape
    smallest = np.empty((n_rows, n), dtype=np.uint64)
    columns = np.arange(n_columns, dtype=np.uint64)
    n_at_once = max(1, CACHED // n_columns)
    doubles = np.empty((n_at_once, n_columns))
    for part in gen_batches(n_rows, n_at_once):
        doubles[: part.stop - part.start] = distances[part]
        keys = doubles[: part.stop - part.start].view(np.uint64)
        keys <<= np.uint64(12)
        keys &= np.uint64(2**64 - 2**n_bits)
        keys |= columns
        if n < n_columns:
            keys.partition(n - 1, axis=1)
        smallest[part] = keys[:, :n]
    smallest.sort(axis=1)
    return smallest


def _checked_rows(rows: Any, name: str) -> NDArray:
    return check_array(rows, dtype=np.float64, input_name=name)


def _checked_column(values: Any, name: str, rows: NDArray, of: str) -> Any:
    """Check that there is a value for each row, or None for all."""
    if values is None and "groups" in name:
        return None
    column = column_or_1d(values)
    if len(column) != len(rows):
        raise ValueError(
            f"{name} must hold a value for each of the {len(rows)} rows of {of}. Got {len(column)}."
        )
    return column


def _check_absent(value: Any, name: str) -> None:
    if value is not None:
        raise ValueError(f"{name} is only used with a reference. Got no reference.")


def _number_alike(left: NDArray, right: NDArray, name: str) -> tuple[NDArray, NDArray]:
    """Give equal values of two columns the same number."""
    if left is right:
        numbers = np.unique(left, return_inverse=True)[1]
        return numbers, numbers
    texts = [column.dtype.kind in "UST" for column in (left, right)]
    if texts[0] != texts[1] and "O" not in (left.dtype.kind, right.dtype.kind):
        raise ValueError(
            f"{name} and reference_{name} must be of one kind. Got {left.dtype} and {right.dtype}."
        )
    numbers = np.unique(np.concatenate([left, right]), return_inverse=True)[1]
    return numbers[: len(left)], numbers[len(left) :]


def _count(wanted: NDArray[np.intp], among: NDArray[np.intp]) -> NDArray[np.intp]:
    """Count, for each number that is wanted, how often it is there."""
    return np.bincount(among, minlength=wanted.max() + 1)[wanted]
