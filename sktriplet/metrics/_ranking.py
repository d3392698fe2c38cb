"""Who is nearest to whom, in the exact order and a chunk at a time: what retrieval scores count."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.preprocessing import normalize
from sklearn.utils import assert_all_finite, check_array, column_or_1d, gen_batches

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


@dataclass
class Search:
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
    ) -> "Search":
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
            for chunk, relevant in self.relevance_by_rank(queries, n_ranks)
        ]
        return float(np.mean(np.concatenate(scores)))

    def relevance_by_rank(
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
    try:
        assert_all_finite(column)
    except (TypeError, ValueError) as error:  # of pandas' NA, whose truth is unknown, the first
        raise ValueError(f"{name} must hold a value for each row. {error}") from error
    return column


def _check_absent(value: Any, name: str) -> None:
    if value is not None:
        raise ValueError(f"{name} is only used with a reference. Got no reference.")


def _number_alike(left: NDArray, right: NDArray, name: str) -> tuple[NDArray, NDArray]:
    """Give equal values of two columns the same number."""
    if left is right:
        numbers = _numbered(left, name)
        return numbers, numbers
    texts = [column.dtype.kind in "UST" for column in (left, right)]
    if texts[0] != texts[1] and "O" not in (left.dtype.kind, right.dtype.kind):
        raise ValueError(
            f"{name} and reference_{name} must be of one kind. Got {left.dtype} and {right.dtype}."
        )
    numbers = _numbered(np.concatenate([left, right]), name)
    return numbers[: len(left)], numbers[len(left) :]


def _numbered(values: NDArray, name: str) -> NDArray[np.intp]:
    try:
        return np.unique(values, return_inverse=True)[1]
    except TypeError as error:
        raise ValueError(
            f"{name} must hold values of one kind, and none missing. {error}"
        ) from error


def _count(wanted: NDArray[np.intp], among: NDArray[np.intp]) -> NDArray[np.intp]:
    """Count, for each number that is wanted, how often it is there."""
    return np.bincount(among, minlength=wanted.max() + 1)[wanted]
