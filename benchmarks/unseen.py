"""Retrieval, verification and identification of classes that are not in the training data.

    python benchmarks/unseen.py               # what benchmarks/results/unseen.jsonl lacks
    python benchmarks/unseen.py --list        # print the missing runs
    python benchmarks/unseen.py --only emoji  # missing runs whose name contains "emoji"
    python benchmarks/unseen.py --quick       # few classes and one epoch, printed only
    python benchmarks/unseen.py --table       # write the results to docs/benchmarks/unseen.md

The data are emoji (1,855 classes, one image by each of three vendors) and letters (126 classes,
drawn by 124 typefaces); see `_unseen_data.py`. Half of the classes are for training, the others for
testing, and so are a third and two thirds of the typefaces. All networks have the same
architecture, initial weights, batches, steps, optimizer and schedule, and are trained in bfloat16
on one CPU thread. The tasks:

- ``tune``: training on half of the training classes (and of their typefaces) with half of the
  steps, evaluation on the others, one seed. Each method has five candidates: three learning rates,
  and two more values of a parameter of its loss at the best one. The candidate with the best MAP@R
  is used in ``test``.
- ``test``: training on all training classes, evaluation on the test classes, five seeds.

Results are written after each run, so the benchmark can be interrupted and continued. The runs of
``test`` follow when those of ``tune`` are complete.

Needs pytorch-metric-learning, Pillow, npm, and the apt-get and dpkg of Debian or Ubuntu.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import _harness as harness
import numpy as np
from _unseen_data import Images, load, split
from _unseen_methods import (
    BASELINES,
    COMMON,
    LOSSES,
    METHODS,
    OURS,
    first_candidates,
    fit,
    second_candidates,
    whiten,
)
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances

from sktriplet.metrics import (
    detection_identification_rate_score,
    mean_average_precision_at_r_score,
)

RESULTS = harness.ResultFile("unseen")
PAGE = harness.PAGES / "unseen.md"

# Data sets, and the share of the cameras in the training part; None if all are in both parts.
DATA = {"emoji": None, "letters": 1 / 3}
INNER_SHARE = 1 / 2
TEST_SPLIT, TUNING_SPLIT = 0, 1
SEEDS = range(5)

N_DRAWS = 10  # of enrolled classes
N_BOOTSTRAP = 2000


def parts_of(data: str, task: str) -> tuple[Images, Images]:
    """Return the training part and the part to evaluate on."""
    share = DATA[data]
    train, test = split(load(data), TEST_SPLIT, share)
    return (train, test) if task == "test" else split(train, TUNING_SPLIT, share and INNER_SHARE)


# Runs.


@dataclass(frozen=True)
class Run:
    """One training of one method."""

    data: str
    task: str
    method: str
    seed: int
    settings: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        """Return the identifier in the results."""
        settings = ", ".join(f"{key}={value}" for key, value in self.settings)
        return f"{self.data} {self.task} {self.seed}: {self.method} ({settings})"


def tuning_runs(data: str, method: str) -> list[Run]:
    """Return the runs that select the settings of a method, as far as they are known.

    There are none if there is nothing to select.
    """

    def runs_of(candidates: list[dict[str, Any]]) -> list[Run]:
        halved = [settings | half_of_the_steps(settings) for settings in candidates]
        return [Run(data, "tune", method, 0, tuple(settings.items())) for settings in halved]

    first = first_candidates(method)
    if len(first) == 1:
        return []
    best = best_of(data, runs_of(first))
    return runs_of(first + ([] if best is None else second_candidates(method, best)))


def half_of_the_steps(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that change in training on half of the classes."""
    return {"min_batches": settings["min_batches"] // 2} if "min_batches" in settings else {}


def best_of(data: str, runs: list[Run]) -> dict[str, Any] | None:
    """Return the settings of the run with the best MAP@R, None if some are missing."""
    scores = {result["run"]: result["map_at_r"] for result in RESULTS.read(data=data, task="tune")}
    if not all(run.name in scores for run in runs):
        return None
    best = dict(max(runs, key=lambda run: scores[run.name]).settings)
    return best | ({"min_batches": COMMON["min_batches"]} if "min_batches" in best else {})


def selected(data: str, method: str) -> dict[str, Any] | None:
    """Return the selected settings of a method, None if tuning runs are missing."""
    runs = tuning_runs(data, method)
    return best_of(data, runs) if runs else first_candidates(method)[0]


def all_runs() -> Iterator[Run]:
    """Yield all runs whose settings are known, those that select the settings first."""
    for data in DATA:
        for method in METHODS:
            for _ in range(2):  # The first runs select the second ones.
                yield from tuning_runs(data, method)
    for seed in SEEDS:
        for data in DATA:
            for method in METHODS:
                settings = selected(data, method)
                if settings is not None and (seed == 0 or method not in BASELINES):
                    yield Run(data, "test", method, seed, tuple(settings.items()))


def execute(run: Run, parts: tuple[Images, Images]) -> harness.Result:
    """Train and evaluate a method."""
    train, test = parts
    start = time.perf_counter(), time.process_time()
    embed = fit(train, run.method, run.seed, dict(run.settings))
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    whitened = {}
    if run.task == "test" and run.method in LOSSES:
        embeddings = whiten(embed, train)(test.images)
        score = mean_average_precision_at_r_score(embeddings, test.classes)
        whitened = {"map_at_r_whitened": round(score, 5)}
    return {
        "run": run.name,
        "data": run.data,
        "task": run.task,
        "method": run.method,
        "seed": run.seed,
        "settings": dict(run.settings),
        "images": load(run.data).digest,
        **scores_of(embed(test.images), test, per_class=run.task == "test"),
        **whitened,
        "seconds": round(seconds[0], 1),
        "cpu_seconds": round(seconds[1], 1),
    }


# Scores.


def scores_of(embeddings: NDArray, test: Images, *, per_class: bool) -> harness.Result:
    """Return all scores of the embeddings of classes that were not in the training data."""
    distances = pairwise_distances(embeddings.astype(np.float32))
    np.fill_diagonal(distances, np.inf)
    same_class = test.classes[:, None] == test.classes
    same_camera = test.cameras[:, None] == test.cameras
    no_self = ~np.eye(len(test.classes), dtype=bool)
    matches = same_class & no_self
    at_r, _, full = ranking_scores(distances, matches)
    across = matches & ~same_camera
    across_at_r, first, _ = ranking_scores(
        np.where(matches & same_camera, np.inf, distances), across
    )
    genuine, impostor = np.triu(across), np.triu(~same_class)
    scores = {
        "map_at_r": at_r,
        "map": full,
        "map_at_r_across": across_at_r,
        "recall_at_1_across": first,
        **error_rates(distances[genuine], distances[impostor]),
        "dir": identification_rate(distances, test),
    }
    result = {name: round(float(np.mean(values)), 5) for name, values in scores.items()}
    if per_class:
        # Means over the queries of each class, from which the intervals are computed.
        sums = np.bincount(test.classes, at_r) / np.maximum(np.bincount(test.classes), 1)
        result["map_at_r_by_class"] = sums[np.unique(test.classes)].round(3).tolist()
    return result


def ranking_scores(distances: NDArray, matches: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return MAP@R, recall@1 and full average precision of the queries that have a match.

    Samples at an infinite distance are not part of the ranking.
    """
    queries = np.flatnonzero(matches.any(axis=1))
    scores = []
    for chunk in np.array_split(queries, -(-len(queries) // 500)):
        order = np.argsort(distances[chunk], axis=1, kind="stable")
        is_match = np.take_along_axis(matches[chunk], order, axis=1)
        ranks = np.arange(1, is_match.shape[1] + 1)
        precision = np.cumsum(is_match, axis=1) / ranks * is_match
        n_matches = is_match.sum(axis=1)
        at_r = np.where(ranks <= n_matches[:, None], precision, 0).sum(axis=1) / n_matches
        scores.append((at_r, is_match[:, 0], precision.sum(axis=1) / n_matches))
    at_r, first, full = map(np.concatenate, zip(*scores, strict=True))
    return at_r, first, full


def error_rates(genuine: NDArray, impostor: NDArray) -> dict[str, float]:
    """Return the false non-match rates at false match rates of at most 1% and 0.1%."""
    rates = {}
    for name, rate in {"fnmr_at_1e-2": 1e-2, "fnmr_at_1e-3": 1e-3}.items():
        n_accepted = int(rate * len(impostor))
        first_rejected = np.partition(impostor, n_accepted)[n_accepted]
        rates[name] = float(np.mean(genuine >= first_rejected))
    return rates


def identification_rate(distances: NDArray, test: Images) -> float:
    """Return the detection and identification rate at a false positive rate of 1%.

    Half of the classes are enrolled with a single image. The images of these classes by other
    cameras, and all images of other classes, are identified by the nearest enrolled image. The
    rate is the mean over random draws of the enrolled images, which are the same for all methods.
    """
    rng = np.random.default_rng(0)
    classes, rates = np.unique(test.classes), []
    for _ in range(N_DRAWS):
        enrolled = rng.permutation(classes)[: len(classes) // 2]
        gallery = np.array([rng.choice(np.flatnonzero(test.classes == c)) for c in enrolled])
        camera_of = dict(zip(enrolled, test.cameras[gallery], strict=True))
        is_probe = [camera_of.get(c) != k for c, k in zip(test.classes, test.cameras, strict=True)]
        probes = np.flatnonzero(is_probe)
        to_gallery = distances[np.ix_(probes, gallery)]
        nearest = to_gallery.argmin(axis=1)
        rate = detection_identification_rate_score(
            test.classes[probes],
            enrolled[nearest],
            to_gallery[np.arange(len(probes)), nearest],
            enrolled=enrolled,
            target_fpir=0.01,
        )
        rates.append(rate)
    return float(np.mean(rates))


# Reporting.

COLUMNS = {
    "map_at_r": "MAP@R",
    "map_at_r_whitened": "MAP@R, whitened",
    "map": "mAP",
    "map_at_r_across": "MAP@R, other cameras",
    "recall_at_1_across": "recall@1, other cameras",
    "fnmr_at_1e-2": "FNMR at FMR 1%",
    "fnmr_at_1e-3": "FNMR at FMR 0.1%",
    "dir": "DIR at FPIR 1%",
    "cpu_seconds": "CPU seconds",
}


def current_results(data: str) -> dict[str, list[harness.Result]]:
    """Return the results of the test runs of each method."""
    current = {run.name for run in all_runs() if run.task == "test"}
    results: dict[str, list[harness.Result]] = {}
    for result in RESULTS.read(data=data, task="test"):
        if result["run"] in current:
            results.setdefault(result["method"], []).append(result)
    return {method: results[method] for method in METHODS if method in results}


def score_table(data: str) -> str:
    """Return the mean scores of each method."""
    rows = []
    for method, results in current_results(data).items():
        cells = []
        for column in COLUMNS:
            values = [result[column] for result in results if column in result]
            digits = 0 if column == "cpu_seconds" else 3
            cells.append(harness.fixed(np.mean(values), digits) if values else "")
        rows.append((method, len(results), *cells))
    header = ("method", "runs", *COLUMNS.values())
    return harness.markdown_table(header, rows, "l" + "r" * (1 + len(COLUMNS)))


def difference_table(data: str) -> str:
    """Return the differences of MAP@R between the embedders and each other method."""
    results = current_results(data)
    rows = []
    for method in results:
        if method not in OURS:
            cells = [difference(results.get(name, []), results[method]) for name in OURS]
            rows.append((method, *cells))
    return harness.markdown_table(("MAP@R compared with", *OURS), rows, "lrr")


def difference(ours: Sequence[harness.Result], theirs: Sequence[harness.Result]) -> str:
    """Return the mean difference of MAP@R with its 95% interval.

    The seeds and the classes are resampled. A method without seeds has the same scores in all.
    """
    by_seed = {result["seed"]: result["map_at_r_by_class"] for result in theirs}
    pairs = []
    for result in ours:
        other = by_seed.get(result["seed"], by_seed.get(0) if len(by_seed) == 1 else None)
        if other is not None:
            pairs.append(np.subtract(result["map_at_r_by_class"], other))
    if not pairs:
        return ""
    differences = np.stack(pairs)
    rng = np.random.default_rng(0)
    n_seeds, n_classes = differences.shape
    means = []
    for _ in range(N_BOOTSTRAP):
        of_seeds = differences[rng.integers(n_seeds, size=n_seeds)].mean(axis=0)
        means.append(of_seeds[rng.integers(n_classes, size=n_classes)].mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def tuning_table(data: str) -> str:
    """Return the MAP@R of the candidates, by learning rate and parameter of the loss."""
    scores: dict[str, dict[str, float]] = {}
    for result in RESULTS.read(data=data, task="tune"):
        scores.setdefault(result["method"], {})[result["run"]] = result["map_at_r"]
    rows = []
    for method in METHODS:
        runs = [run for run in tuning_runs(data, method) if run.name in scores.get(method, {})]
        for run in sorted(runs, key=lambda run: -scores[method][run.name]):
            tuned = [f"{k} {v}" for k, v in run.settings if k not in COMMON]
            rows.append((method, ", ".join(tuned), harness.fixed(scores[method][run.name], 3)))
    return harness.markdown_table(("method", "settings", "MAP@R"), rows, "llr")


def write_page() -> None:
    """Write the tables."""
    labels = ("run", "task", "method", "data", "images")
    blocks = {"environment": harness.environment_line(RESULTS.read(), labels)}
    for data in DATA:
        blocks[data] = score_table(data)
        blocks[f"{data} differences"] = difference_table(data)
        blocks[f"{data} tuning"] = tuning_table(data)
    harness.write_blocks(PAGE, blocks)


def format_scores(result: harness.Result) -> str:
    return ", ".join(f"{column} {result[column]:.4g}" for column in COLUMNS if column in result)


def quick() -> None:
    """Run each method once on few classes."""
    for data in DATA:
        few = [part[part.classes < 100] for part in parts_of(data, "test")]
        for method in METHODS:
            settings = first_candidates(method)[0]
            if method not in BASELINES:
                settings = {**settings, "max_epochs": 1, "min_batches": 1}
            run = Run(data, "test", method, 0, tuple(settings.items()))
            print(f"{run.name}: {format_scores(execute(run, (few[0], few[1])))}", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="runs whose name contains this text")
    parser.add_argument("--list", action="store_true", help="print the missing runs")
    parser.add_argument("--quick", action="store_true", help="few classes, printed only")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    harness.use_single_thread()
    if arguments.table:
        return write_page()
    if arguments.quick:
        return quick()
    about = harness.environment("pytorch-metric-learning", "pillow")
    done = RESULTS.measured("run")
    for run in all_runs():  # Tuning results that are measured meanwhile select later runs.
        if (run.name,) in done or arguments.only not in run.name:
            continue
        print(run.name, flush=True)
        done.add((run.name,))
        if not arguments.list:
            result = execute(run, parts_of(run.data, run.task))
            RESULTS.append({**about, **result})
            print(f"  {format_scores(result)}", flush=True)


if __name__ == "__main__":
    main()
