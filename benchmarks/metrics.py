"""What an exact retrieval score costs beside the plain search that it cannot do without.

The plain search takes chunks of queries, their distances to all rows by one matrix
product in single precision, and ``argpartition`` of each row at as many neighbours as the score
needs: no order, no ties, no score. MAP@R cannot do without the order, and is compared with a
search that sorts what it found, too. All run in turns on one thread and the medians are
compared. Memory is measured in a process of its own, beyond the embeddings.

    python benchmarks/metrics.py           # 60,000 x 64: a quarter of an hour, alone on the machine
    python benchmarks/metrics.py --quick   # 10,000 x 64: to see that it works
"""

import argparse
import datetime
import json
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

from sktriplet.metrics import (
    mean_average_precision_at_r_score,
    r_precision_score,
    recall_at_k_score,
)

RESULTS = Path(__file__).parent / "results" / "metrics.jsonl"
SCORES = {
    "recall at 1": recall_at_k_score,
    "R-precision": r_precision_score,
    "MAP@R": mean_average_precision_at_r_score,
}
N_COMPONENTS = 64


def data(n_rows: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return classes that overlap, on the unit sphere."""
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_rows)
    centres = rng.normal(size=(n_classes, N_COMPONENTS))
    embeddings = centres[y] + 1.5 * rng.normal(size=(n_rows, N_COMPONENTS))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32), y


def plain_search(
    embeddings: np.ndarray, n_neighbors: int, *, in_order: bool = False, chunk: int = 256
) -> int:
    """Find the nearest of each row, in no order unless asked."""
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


def peak_bytes() -> int:
    """Return the most memory that this process has held, on Linux."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def report_memory(score: str, n_rows: int, n_classes: int) -> None:
    """Print how many bytes a score takes beyond those of the process before it."""
    embeddings, y = data(n_rows, n_classes)
    SCORES[score](embeddings[:100], y[:100])
    before = peak_bytes()
    SCORES[score](embeddings, y)
    print(peak_bytes() - before)


def measure(n_rows: int, n_classes: int, turns: int) -> list[dict]:
    """Return a row of results for each score."""
    embeddings, y = data(n_rows, n_classes)
    largest_class = np.bincount(y).max()
    steps = {
        "search for 1": lambda: plain_search(embeddings, 1),
        "search for R": lambda: plain_search(embeddings, largest_class - 1),
        "search for R in order": lambda: plain_search(embeddings, largest_class - 1, in_order=True),
        **{name: lambda score=score: score(embeddings, y) for name, score in SCORES.items()},
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    values = {}
    for _ in range(turns):
        for name, step in steps.items():
            start = perf_counter()
            values[name] = step()
            seconds[name].append(perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    results = []
    for name in SCORES:
        searched = "search for 1" if name == "recall at 1" else "search for R"
        command = [sys.executable, __file__, "--memory-of", name, str(n_rows), str(n_classes)]
        memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(
            {
                "score": name,
                "rows": n_rows,
                "components": N_COMPONENTS,
                "classes": n_classes,
                "value": values[name],
                "seconds": medians[name],
                "plain_search_seconds": medians[searched],
                "times_plain_search": medians[name] / medians[searched],
                "times_ordered_search": medians[name] / medians["search for R in order"],
                "turns": turns,
                "peak_mb": int(memory) / 1e6,
            }
        )
    return results


def environment() -> dict[str, str]:
    """Return what the figures depend on."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())[1]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10,000 rows; nothing is written")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    threadpool_limits(1)
    if arguments.memory_of:
        score, n_rows, n_classes = arguments.memory_of
        return report_memory(score, int(n_rows), int(n_classes))
    n_rows = 10_000 if arguments.quick else 60_000
    results = []
    for n_classes in (10, 1000):
        results += measure(n_rows, n_classes, arguments.turns)
        for row in results[-len(SCORES) :]:
            print(
                f"{n_rows} rows, {n_classes:4} classes, {row['score']:12}"
                f"{row['seconds']:8.2f} s = {row['times_plain_search']:.2f} x "
                f"{row['plain_search_seconds']:.2f} s, {row['times_ordered_search']:.2f} x one "
                f"in order, {row['peak_mb']:.0f} MB, "
                f"score {row['value']:.4f}",
                flush=True,
            )
    if not arguments.quick:
        about = environment()
        RESULTS.write_text("".join(json.dumps({**about, **row}) + "\n" for row in results))


if __name__ == "__main__":
    main()
