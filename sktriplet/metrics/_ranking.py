"""Exact nearest-neighbor ranking, computed in chunks, for the retrieval scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches

from sktriplet.metrics._arguments import check_retrieval_arguments

# Memory for one chunk of queries: small enough for any machine, large enough for BLAS.
CHUNK_BYTES = 2**26
# Number of elements that fit into a processor's cache.
CACHE_ELEMENTS = 2**16
# Candidates beyond the requested ranks, in case they tie with the last one.
N_TIE_CANDIDATES = 16
# Up to this many ranks in order, single precision leaves few near ties to resolve.
MAX_RANKS_IN_SINGLE = 1000
# Distances are shifted and scaled to lie between 1 and this, where floats are evenly spaced.
EXCLUDED_DISTANCE = np.float32(2 - 2**-23)
EXCLUDED_KEY = np.uint64(2**64 - 2**41)


@dataclass
class NeighborRanking:
    """Queries, the references they are compared with, and which of these are matches.

    References are ranked by their distance in double precision, computed from differences;
    ties are broken by index. Distances from a matrix product, which are many times faster,
    determine the ranking except for near ties: where candidates differ by less than a
    tolerance, and some are matches and others are not, exact distances are computed.
    """

    queries: NDArray
    references: NDArray
    query_labels: NDArray[np.intp]
    reference_labels: NDArray[np.intp]
    query_exclusions: NDArray[np.intp] | None
    reference_exclusions: NDArray[np.intp] | None
    searches_itself: bool
    metric: str
    ordered: bool

    @classmethod
    def from_arrays(cls, *arrays: Any, metric: str, ordered: bool) -> "NeighborRanking":
        """Check and encode the arrays that a score was called with.

        ``ordered=False`` requests the set of the nearest neighbors, but not their order.
        """
        (queries, references), labels, exclusions = check_retrieval_arguments(*arrays)
        searches_itself = references is queries
        if metric == "cosine":
            queries = normalize(queries)
            references = queries if searches_itself else normalize(references)
        return cls(queries, references, *labels, *exclusions, searches_itself, metric, ordered)

    def __post_init__(self) -> None:
        # A key has 64 bits: the lowest hold the index of a reference, the others its distance.
        self.n_index_bits = max(12, int(len(self.references) - 1).bit_length())
        self.n_matches = _count(self.query_labels, self.reference_labels)
        if self.query_exclusions is not None and self.reference_exclusions is not None:
            self.n_matches -= _count(self.query_exclusions, self.reference_exclusions)
        elif self.searches_itself:
            self.n_matches -= 1

    def relevance_by_rank(
        self, queries: NDArray[np.intp], n_ranks: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
        """Yield chunks of queries, and whether their i-th nearest neighbors are matches.

        Ranks of a query beyond its own ``n_ranks``, of shape (n_queries,), are False.
        """
        max_ranks, n_references = n_ranks[queries].max(), len(self.references)
        in_double = self.ordered and max_ranks > MAX_RANKS_IN_SINGLE
        left, right, summand, error = self._gemm_operands(np.float64 if in_double else np.float32)
        tolerance = np.uint64(np.ceil(2 * error * 2.0**64) + 2 ** (self.n_index_bits + 1))
        bytes_per_query = right.itemsize * n_references + 10 * min(n_references, max_ranks)
        for batch in gen_batches(len(queries), max(1, CHUNK_BYTES // bytes_per_query)):
            chunk = queries[batch]
            distances = left[chunk] @ right.T
            distances += summand
            self._exclude(distances, chunk)
            ranks = n_ranks[chunk]
            n_candidates = min(n_references, ranks.max() + N_TIE_CANDIDATES)
            relevant = self._relevance(distances, chunk, ranks, n_candidates, tolerance)
            relevant = relevant[:, : ranks.max()]
            relevant &= np.arange(relevant.shape[1]) < ranks[:, None]
            yield chunk, relevant

    def _gemm_operands(self, dtype: type) -> tuple[NDArray, NDArray, NDArray, float]:
        """Return the operands of ``left @ right.T + summand``, and a bound on its error.

        The result is the distances, squared if Euclidean, shifted by a constant per query and
        scaled to lie between 1 and 2.
        """
        left, right = self.queries, self.references
        if self.metric == "euclidean":
            center = right.mean(axis=0)
            left, right = left - center, right - center
            largest = max(np.abs(left).max(), np.abs(right).max())
            if largest > 0:
                scale = 2.0 ** -np.ceil(np.log2(largest))
                left, right = left * scale, right * scale
        left, right = left.astype(dtype), right.astype(dtype)
        squares = [np.einsum("ij,ij->i", part, part, dtype=np.float64) for part in (left, right)]
        largest_left, largest_right = (part.max() for part in squares)
        both = (np.sqrt(largest_left) + np.sqrt(largest_right)) ** 2
        # Division by a power of two is exact. No distance exceeds half of the span.
        span = 2.0 ** np.ceil(np.log2(2 * both)) if both > 0 else 1.0
        constant = squares[1] + largest_left if self.metric == "euclidean" else both / 2
        summand: NDArray = (1.25 + np.full(len(right), constant) / span).astype(dtype)
        # Let u be half an epsilon and d the number of features. The error of a product is at most
        # d u times both norms, hence d u times a quarter of their squared sum, and counts twice.
        # Rounding the samples adds 2 u times that square. The sum and its terms, below 2, add u
        # each, and the exact distances d times the u of double precision.
        u, n_features = np.finfo(dtype).eps / 2, self.queries.shape[1]
        error = ((n_features / 2 + 8) * both / span + 4) * u
        error += (n_features + 4) * np.finfo(float).eps
        return left * dtype(-2 / span), right, summand, float(error)

    def _exclude(self, distances: NDArray, queries: NDArray[np.intp]) -> None:
        """Move references that must not be found to the last ranks."""
        if self.query_exclusions is not None:
            is_excluded = self.query_exclusions[queries, None] == self.reference_exclusions
            distances[is_excluded] = EXCLUDED_DISTANCE
        elif self.searches_itself:
            distances[np.arange(len(queries)), queries] = EXCLUDED_DISTANCE

    def _relevance(
        self,
        distances: NDArray,
        queries: NDArray[np.intp],
        n_ranks: NDArray[np.int64],
        n_candidates: int,
        tolerance: np.uint64,
    ) -> NDArray[np.bool_]:
        """Return whether the nearest candidates of queries are matches, in exact order."""
        keys = _nearest_keys(distances, n_candidates, self.n_index_bits)
        relevant, is_resolved = np.empty(keys.shape, dtype=bool), np.empty(len(keys), dtype=bool)
        for part in gen_batches(len(keys), max(1, CACHE_ELEMENTS // n_candidates)):
            relevant[part], is_resolved[part] = self._resolve_near_ties(
                keys[part], queries[part], n_ranks[part], tolerance
            )
        unresolved, n_references = np.flatnonzero(~is_resolved), len(self.references)
        batch_size = max(1, CACHE_ELEMENTS // n_references)
        for start in range(0, len(unresolved), batch_size):
            part = unresolved[start : start + batch_size]
            relevant[part] = self._relevance(
                distances[part], queries[part], n_ranks[part], n_references, tolerance
            )[:, :n_candidates]
        return relevant

    def _resolve_near_ties(
        self,
        keys: NDArray[np.uint64],
        queries: NDArray[np.intp],
        n_ranks: NDArray[np.int64],
        tolerance: np.uint64,
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return whether candidates are matches, in exact order, and which queries are resolved.

        A query needs more candidates if near ties within its ranks may continue after the last.
        """
        candidates = (keys & np.uint64(2**self.n_index_bits - 1)).view(np.int64)
        relevant = self.reference_labels.take(candidates) == self.query_labels[queries, None]
        relevant &= keys < EXCLUDED_KEY
        starts_group = _near_tie_groups(keys, tolerance)
        last_group = keys.shape[1] - 1 - starts_group[:, ::-1].argmax(axis=1)
        is_resolved = (last_group >= n_ranks) | (keys.shape[1] == len(self.references))
        starts, stops = _ambiguous_groups(
            starts_group, relevant, np.where(is_resolved, n_ranks, 0), self.ordered
        )
        self._sort_groups(relevant, candidates, queries, starts, stops)
        return relevant, is_resolved

    def _sort_groups(
        self,
        relevant: NDArray[np.bool_],
        candidates: NDArray[np.int64],
        queries: NDArray[np.intp],
        starts: NDArray[np.intp],
        stops: NDArray[np.intp],
    ) -> None:
        """Sort the relevance within groups by exact distance and index, in place."""
        lengths = stops - starts
        positions = np.repeat(stops - np.cumsum(lengths), lengths) + np.arange(lengths.sum())
        found = candidates.ravel()[positions]
        exact = self._exact_distances(queries[positions // candidates.shape[1]], found)
        order = np.lexsort((found, exact, np.repeat(starts, lengths)))
        relevant.ravel()[positions] = relevant.ravel()[positions[order]]

    def _exact_distances(
        self, queries: NDArray[np.intp], references: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the distance of each query to its reference, squared if Euclidean."""
        distances = np.empty(len(queries))
        batch_size = max(1, CACHE_ELEMENTS // self.queries.shape[1])
        for start in range(0, len(queries), batch_size):
            part = slice(start, start + batch_size)
            left, right = self.queries[queries[part]], self.references[references[part]]
            if self.metric == "cosine":
                distances[part] = 1 - np.einsum("ij,ij->i", left, right)
            else:
                left -= right
                distances[part] = np.einsum("ij,ij->i", left, left)
        return distances


def _near_tie_groups(keys: NDArray[np.uint64], tolerance: np.uint64) -> NDArray[np.bool_]:
    """Return which sorted keys exceed the previous one by more than the tolerance.

    Each starts a group of near ties, within which the exact order is unknown.
    """
    starts_group = np.ones(keys.shape, dtype=bool)
    np.greater(keys[:, 1:] - keys[:, :-1], tolerance, out=starts_group[:, 1:])
    return starts_group


def _ambiguous_groups(
    starts_group: NDArray[np.bool_],
    relevant: NDArray[np.bool_],
    n_ranks: NDArray[np.int64],
    ordered: bool,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the starts and stops, in flattened arrays, of groups to sort by exact distance.

    They hold both matches and others, and start within the ranks. If the order within the
    ranks does not matter, they also extend beyond the last one.
    """
    is_ambiguous = ~starts_group
    is_ambiguous[:, 1:] &= relevant[:, 1:] != relevant[:, :-1]
    bounds = np.append(np.flatnonzero(starts_group), starts_group.size)
    ambiguous = np.searchsorted(bounds, np.flatnonzero(is_ambiguous), side="right")
    ambiguous = ambiguous[np.diff(ambiguous, prepend=0) > 0]  # each group once
    starts, stops = bounds[ambiguous - 1], bounds[ambiguous]
    rows = starts // starts_group.shape[1]
    first_unranked = rows * starts_group.shape[1] + n_ranks[rows]
    matters = (starts < first_unranked) & (ordered | (stops > first_unranked))
    return starts[matters], stops[matters]


def _nearest_keys(distances: NDArray, n: int, n_index_bits: int) -> NDArray[np.uint64]:
    """Return the n smallest distances of each row, with their columns, as sorted integers.

    Distances lie between 1 and 2, so their order is that of the mantissas. These are moved to
    the highest bits of the keys; the lowest bits are replaced by the column.
    """
    n_rows, n_columns = distances.shape
    nearest = np.empty((n_rows, n), dtype=np.uint64)
    columns = np.arange(n_columns, dtype=np.uint64)
    batch_size = max(1, CACHE_ELEMENTS // n_columns)
    doubles = np.empty((batch_size, n_columns))
    for batch in gen_batches(n_rows, batch_size):
        doubles[: batch.stop - batch.start] = distances[batch]
        keys = doubles[: batch.stop - batch.start].view(np.uint64)
        keys <<= np.uint64(12)
        keys &= np.uint64(2**64 - 2**n_index_bits)
        keys |= columns
        if n < n_columns:
            keys.partition(n - 1, axis=1)
        nearest[batch] = keys[:, :n]
    nearest.sort(axis=1)
    return nearest


def _count(wanted: NDArray[np.intp], codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Count how often each wanted code occurs."""
    return np.bincount(codes, minlength=wanted.max() + 1)[wanted]
