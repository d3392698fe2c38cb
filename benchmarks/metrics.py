"""Time and memory of the exact retrieval scores, relative to a plain neighbor search.

    python benchmarks/metrics.py           # 60,000 x 64: an hour on an idle machine
    python benchmarks/metrics.py --quick   # 10,000 x 64, printed only

The plain search computes the distances of a chunk of queries to all samples by one float32
matrix product, and the required number of neighbors per query by ``argpartition``, without
sorting, ties, or scores: for recall at 1, one neighbor; for precision at 5, five; for the others,
R. MAP@R needs sorted neighbors and is also compared with a search that sorts the neighbors it
found. mAP, MRR and NDCG rank all samples, so that the plain search does less than they need. All
run interleaved on one thread; ratios are medians of paired ratios. Memory is measured in a process
per score, in addition to the embeddings. Error rates of verification are timed on 10 million pairs.
"""

import argparse
import statistics
from functools import partial

import _harness as harness
import numpy as np

from sktriplet.metrics import (
    equal_error_rate_score,
    false_non_match_rate_score,
    mean_average_precision_at_r_score,
    mean_average_precision_score,
    mean_reciprocal_rank_score,
    normalized_discounted_cumulative_gain_score,
    precision_at_k_score,
    r_precision_score,
    recall_at_k_score,
)

RESULTS = harness.ResultFile("metrics")
SCORES = {
    "recall at 1": recall_at_k_score,
    "precision at 5": precision_at_k_score,
    "R-precision": r_precision_score,
    "MAP@R": mean_average_precision_at_r_score,
    "mAP": mean_average_precision_score,
    "MRR": mean_reciprocal_rank_score,
    "NDCG": normalized_discounted_cumulative_gain_score,
}
VERIFICATION_SCORES = {
    "equal error rate": equal_error_rate_score,
    "FNMR at FMR 0.001": false_non_match_rate_score,
}
N_PAIRS = 10_000_000
N_COMPONENTS = 64


def data(n_samples: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of overlapping classes on the unit sphere, and labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_samples)
    centers = rng.normal(size=(n_classes, N_COMPONENTS))
    embeddings = centers[y] + 1.5 * rng.normal(size=(n_samples, N_COMPONENTS))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32), y


def plain_search(
    embeddings: np.ndarray, n_neighbors: int, *, in_order: bool = False, chunk: int = 256
) -> int:
    """Find the nearest neighbors of each sample, sorted by distance if requested."""
    squares = np.einsum("ij,ij->i", embeddings, embeddings)
    n_found = 0
    for start in range(0, len(embeddings), chunk):
        distances = -2 * embeddings[start : start + chunk] @ embeddings.T
        distances += squares
        distances += squares[start : start + chunk, None]
        nearest = np.argpartition(distances, n_neighbors, axis=1)[:, :n_neighbors]
        if in_order:
            order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1)
            nearest = np.take_along_axis(nearest, order, axis=1)
        n_found += nearest.size
    return n_found


def report_memory(score: str, n_samples: int, n_classes: int) -> None:
    """Print the memory of a score in bytes."""
    embeddings, y = data(n_samples, n_classes)
    SCORES[score](embeddings[:100], y[:100])
    print(harness.memory_growth(lambda: SCORES[score](embeddings, y)))


def measure(n_samples: int, n_classes: int, turns: int) -> list[harness.Result]:
    """Return one result per score."""
    embeddings, y = data(n_samples, n_classes)
    max_neighbors = np.bincount(y).max() - 1
    values = {}

    def score(name: str) -> None:
        values[name] = SCORES[name](embeddings, y)

    steps = {
        "search for 1": partial(plain_search, embeddings, 1),
        "search for 5": partial(plain_search, embeddings, 5),
        "search for R": partial(plain_search, embeddings, max_neighbors),
        "search for R in order": partial(plain_search, embeddings, max_neighbors, in_order=True),
        **{name: partial(score, name) for name in SCORES},
    }
    seconds = harness.time_in_turns(steps, turns)
    results = []
    for name in SCORES:
        searched = f"search for {name[-1] if name[-1].isdigit() else 'R'}"
        in_order = harness.median_ratio(seconds[name], seconds["search for R in order"])
        results.append(
            {
                "score": name,
                "rows": n_samples,
                "components": N_COMPONENTS,
                "classes": n_classes,
                "value": values[name],
                "seconds": statistics.median(seconds[name]),
                "plain_search_seconds": statistics.median(seconds[searched]),
                "times_plain_search": harness.median_ratio(seconds[name], seconds[searched]),
                "times_ordered_search": in_order,
                "turns": turns,
                "peak_mb": harness.memory_in_subprocess(__file__, name, n_samples, n_classes) / 1e6,
            }
        )
    return results


def measure_verification(n_pairs: int, turns: int) -> list[harness.Result]:
    """Return one result per score of pairs, one percent of which are of the same class."""
    rng = np.random.default_rng(0)
    same = rng.random(n_pairs) < 0.01
    scores = rng.normal(size=n_pairs) + 3 * same
    steps = {name: partial(score, same, scores) for name, score in VERIFICATION_SCORES.items()}
    seconds = harness.time_in_turns(steps, turns)
    return [
        {
            "score": name,
            "pairs": n_pairs,
            "value": score(same, scores),
            "seconds": statistics.median(seconds[name]),
            "turns": turns,
        }
        for name, score in VERIFICATION_SCORES.items()
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10,000 samples, printed only")
    parser.add_argument("--turns", type=int, default=3, help="timings per search and score")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    harness.use_single_thread()
    if arguments.memory_of:
        score, n_samples, n_classes = arguments.memory_of
        return report_memory(score, int(n_samples), int(n_classes))
    n_samples = 10_000 if arguments.quick else 60_000
    results = []
    for n_classes in (10, 1000):
        for result in measure(n_samples, n_classes, arguments.turns):
            results.append({**harness.environment(), **result})
            print(
                f"{n_samples} samples, {n_classes:4} classes, {result['score']:15}"
                f"{result['seconds']:8.2f} s = {result['times_plain_search']:.2f} x plain search "
                f"({result['plain_search_seconds']:.2f} s), "
                f"{result['times_ordered_search']:.2f} x sorted search, "
                f"{result['peak_mb']:.0f} MB, score {result['value']:.4f}",
                flush=True,
            )
    for result in measure_verification(N_PAIRS, arguments.turns):
        results.append({**harness.environment(), **result})
        print(
            f"{N_PAIRS} pairs, {result['score']:18}{result['seconds']:8.2f} s, "
            f"score {result['value']:.4f}",
            flush=True,
        )
    if not arguments.quick:
        RESULTS.replace(results)


if __name__ == "__main__":
    main()
