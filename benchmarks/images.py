"""Retrieval and classification of Fashion-MNIST images, with known and with new classes.

    python benchmarks/images.py               # what benchmarks/results/images.jsonl lacks
    python benchmarks/images.py --list        # print the missing runs
    python benchmarks/images.py --only ours   # missing runs whose name contains "ours"
    python benchmarks/images.py --quick       # 2,000 images and 1 epoch, printed only
    python benchmarks/images.py --table       # write the results to docs/benchmarks/images.md

Results are written after each run, so the benchmark can be interrupted and continued. All
methods use the same images, numbers of epochs, batches of 128 and augmentation. All networks have
the same architecture and standardization, and are trained by AdamW with a cosine schedule in
bfloat16 on one CPU thread. The tasks:

- ``tune``: training on 15,000 of the 60,000 training images, evaluation on 10,000 others. All
  networks have the same number of candidate settings; `RECIPES` holds the best ones.
- ``known``: training on 60,000 images of 10 classes, 3 seeds, evaluation on the 10,000 test images.
- ``precision``: the embedder in bfloat16 and in float32, on the images and for the epochs of
  ``tune``, 3 seeds.
- ``new``: training on 5 random classes, evaluation on the test images of the other 5, 5 times.
- ``tune new``: training on 8,000 training images of 5 classes, evaluation on 2,500 training images
  of the other 5, 3 times, with other draws of the classes than ``new``. It selects the network,
  since other settings suit new classes: a linear map, for every method.
- ``tune new linear``: the same for linear maps, on all 30,000 images of the 5 classes, since more
  images mean more steps per epoch. It selects the other settings for `NEW_RECIPES`.

Needs pytorch-metric-learning. Reads Debian's dataset-fashion-mnist, or downloads from OpenML.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import _harness as harness
import numpy as np
from _images_methods import METHODS, NETWORKS, Images, load_fashion_mnist
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from sktriplet.metrics import mean_average_precision_at_r_score

RESULTS = harness.ResultFile("images")
PAGE = harness.PAGES / "images.md"

EPOCHS, TUNING_EPOCHS, NEW_EPOCHS = 10, 5, (1, 4)
N_TUNING, N_HELD_OUT = 15_000, 10_000
N_NEW_TUNING, N_NEW_HELD_OUT = 8_000, 2_500
SEEDS, CLASS_SPLITS, TUNING_SPLITS = range(3), range(5), range(100, 103)

# Settings: known classes.

AUGMENT = "flip"
LEARNING_RATES = (1e-3, 2e-3, 4e-3)
GRIDS: dict[str, list[dict[str, Any]]] = {
    "cross-entropy": [
        {"lr": lr, "smoothing": smoothing} for lr in LEARNING_RATES for smoothing in (0.0, 0.1)
    ],
    "PML": [{"lr": lr, "margin": margin} for lr in LEARNING_RATES for margin in (0.2, 0.5)],
    "ours": [{"lr": lr, "margin": margin} for lr in LEARNING_RATES for margin in (0.2, 0.5)],
}
RECIPES: dict[str, dict[str, Any]] = {
    "cross-entropy": {"lr": 4e-3, "smoothing": 0.1, "augment": AUGMENT},
    "PML": {"lr": 4e-3, "margin": 0.2, "augment": AUGMENT},
    "ours": {"lr": 2e-3, "margin": 0.5, "augment": AUGMENT},
}

# Settings: new classes. Task: networks, learning rates, and values of a parameter per method.

NEW_GRIDS: dict[str, tuple[tuple[str, ...], tuple[float, ...], dict[str, Any]]] = {
    "tune new": (
        tuple(NETWORKS),
        (2e-3,),
        {
            "cross-entropy": ("smoothing", (0.0, 0.1)),
            "PML": ("margin", (0.1, 0.5)),
            "ours": ("margin", (0.1, 0.5)),
        },
    ),
    "tune new linear": (
        ("linear",),
        (5e-4, 2e-3),
        {
            "cross-entropy": ("smoothing", (0.1, 0.2)),
            "PML": ("margin", (0.05, 0.1)),
            "ours": ("margin", (0.05, 0.1)),
        },
    ),
}
NEW_RECIPES: dict[str, tuple[int, dict[str, Any]]] = {
    "cross-entropy": (1, {"lr": 5e-4, "smoothing": 0.2, "augment": None, "network": "linear"}),
    "PML": (1, {"lr": 5e-4, "margin": 0.05, "augment": None, "network": "linear"}),
    "ours": (1, {"lr": 2e-3, "margin": 0.05, "augment": None, "network": "linear"}),
}


def images_of(task: str, number: int) -> Images:
    """Return the images of a task; for new classes, the number selects the classes."""
    data = load_fashion_mnist()
    train, labels = data.train, data.train_labels
    if task == "known":
        return data
    if task in ("tune", "precision"):
        order = np.random.default_rng(0).permutation(len(train))
        held_out, chosen = np.split(order[: N_HELD_OUT + N_TUNING], [N_HELD_OUT])
        return Images(train[chosen], labels[chosen], train[held_out], labels[held_out])
    rng = np.random.default_rng(number)
    seen, unseen = np.split(rng.permutation(10), 2)
    if task in NEW_GRIDS:
        chosen, held_out = (
            rng.permutation(np.flatnonzero(np.isin(labels, classes))) for classes in (seen, unseen)
        )
        if task == "tune new":
            chosen = chosen[:N_NEW_TUNING]
        held_out = held_out[:N_NEW_HELD_OUT]
        return Images(train[chosen], labels[chosen], train[held_out], labels[held_out])
    chosen, held_out = np.isin(labels, seen), np.isin(data.test_labels, unseen)
    return Images(train[chosen], labels[chosen], data.test[held_out], data.test_labels[held_out])


# Runs.


@dataclass(frozen=True)
class Run:
    """One training of one method."""

    task: str
    method: str
    number: int
    epochs: int
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Return the identifier in the results."""
        settings = ", ".join(f"{key}={value}" for key, value in self.settings)
        return f"{self.task} {self.number}: {self.method} ({self.epochs} epochs, {settings})"


def new_grid(task: str, method: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the candidate numbers of epochs and settings for new classes."""
    networks, learning_rates, parameters = NEW_GRIDS[task]
    name, values = parameters[method]
    for candidate in itertools.product(networks, learning_rates, NEW_EPOCHS, values):
        network, lr, epochs, value = candidate
        yield epochs, {"lr": lr, name: value, "augment": None, "network": network}


def all_runs() -> Iterator[Run]:
    """Yield all runs, those that select the recipes first."""
    for method, grid in GRIDS.items():
        for settings in grid:
            candidate = tuple({**settings, "augment": AUGMENT}.items())
            yield Run("tune", method, 0, TUNING_EPOCHS, candidate)
    for number, method in itertools.product(TUNING_SPLITS, METHODS):
        if method not in RECIPES:
            yield Run("tune new", method, number, 0)
            continue
        for task in NEW_GRIDS:
            for epochs, settings in new_grid(task, method):
                yield Run(task, method, number, epochs, tuple(settings.items()))
    for number, method in itertools.product(CLASS_SPLITS, METHODS):
        epochs, settings = NEW_RECIPES.get(method, (0, {}))
        yield Run("new", method, number, epochs, tuple(settings.items()))
    for number, method in itertools.product(SEEDS, METHODS):
        if method in RECIPES:
            yield Run("known", method, number, EPOCHS, tuple(RECIPES[method].items()))
        elif number == 0:
            yield Run("known", method, number, 0)
    for seed, precision in itertools.product(SEEDS, ("bfloat16", "float32")):
        settings = tuple({**RECIPES["ours"], "precision": precision}.items())
        yield Run("precision", "ours", seed, TUNING_EPOCHS, settings)


def execute(run: Run, images: Images) -> harness.Result:
    """Train and evaluate a method."""
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = METHODS[run.method](images, run.number, run.epochs, **dict(run.settings))
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    embedded = fitted.embed(images.test)
    nearest = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(embedded)
    # Because of rounding, the nearest neighbor of a sample may not be the sample itself.
    neighbors = nearest.kneighbors(embedded, return_distance=False)
    is_itself = neighbors[:, 0] == np.arange(len(neighbors))
    first = np.where(is_itself, neighbors[:, 1], neighbors[:, 0])
    result = {
        "run": run.name,
        "task": run.task,
        "method": run.method,
        "number": run.number,
        "epochs": run.epochs,
        "settings": dict(run.settings),
        "rows": len(images.train),
        "recall_at_1": float(np.mean(images.test_labels[first] == images.test_labels)),
        "map_at_r": mean_average_precision_at_r_score(embedded, images.test_labels),
        "seconds": round(seconds[0], 1),
        "cpu_seconds": round(seconds[1], 1),
    }
    if "new" not in run.task:
        knn = KNeighborsClassifier(5, algorithm="brute")
        knn.fit(fitted.embed(images.train), images.train_labels)
        result["accuracy_5nn"] = float(knn.score(embedded, images.test_labels))
        if fitted.classify is not None:
            predicted = fitted.classify(images.test)
            result["accuracy_argmax"] = float(np.mean(predicted == images.test_labels))
    return result


# Reporting.

COLUMNS = {
    "accuracy_5nn": "5-NN accuracy",
    "accuracy_argmax": "argmax accuracy",
    "recall_at_1": "recall@1",
    "map_at_r": "MAP@R",
    "cpu_seconds": "CPU seconds",
}


def method_table(task: str) -> str:
    """Return the number of runs and the mean scores of each method."""
    groups: dict[str, list[harness.Result]] = {}
    current = {run.name for run in all_runs()}
    for result in RESULTS.read(task=task):
        if result["run"] in current:
            precision = result["settings"].get("precision", "")
            groups.setdefault(f"{result['method']} {precision}".strip(), []).append(result)
    if task == "new" and groups:
        # Scores differ more between draws of classes than between methods: compare shared draws.
        shared = set.intersection(*[{r["number"] for r in group} for group in groups.values()])
        groups = {
            method: [result for result in group if result["number"] in shared]
            for method, group in groups.items()
        }
    columns = [
        column for column in COLUMNS if any(column in r for group in groups.values() for r in group)
    ]
    rows = []
    for method, group in groups.items():
        cells = []
        for column in columns:
            values = [result[column] for result in group if column in result]
            mean = statistics.mean(values) if values else None
            cells.append(harness.fixed(mean, 0 if column == "cpu_seconds" else 4))
        rows.append((method, len(group), *cells))
    header = ("method", "runs", *(COLUMNS[column] for column in columns))
    return harness.markdown_table(header, rows, "l" + "r" * (1 + len(columns)))


def tuning_table() -> str:
    """Return the accuracies by which the recipes were selected."""
    rows = []
    for result in RESULTS.read(task="tune"):
        settings = ", ".join(f"{name} {value}" for name, value in result["settings"].items())
        scores = (harness.fixed(result.get(key), 4) for key in ("accuracy_5nn", "accuracy_argmax"))
        rows.append((result["method"], settings, *scores))
    return harness.markdown_table(
        ("method", "settings", "5-NN accuracy", "argmax accuracy"), rows, "llrr"
    )


def new_tuning_table(task: str) -> str:
    """Return the mean scores by which the recipes for new classes were selected."""
    scores: dict[tuple[str, str], list[float]] = {}
    for result in RESULTS.read(task=task):
        settings = [
            f"{key} {value}" for key, value in result["settings"].items() if value is not None
        ]
        if result["epochs"]:
            settings.insert(0, f"epochs {result['epochs']}")
        scores.setdefault((result["method"], ", ".join(settings)), []).append(result["map_at_r"])
    rows = [
        (*candidate, harness.fixed(statistics.mean(values), 4))
        for candidate, values in scores.items()
        if len(values) == len(TUNING_SPLITS)
    ]
    return harness.markdown_table(("method", "settings", "MAP@R"), rows, "llr")


def write_page() -> None:
    """Write the tables, except that of `images_speed.py`."""
    blocks = {
        "environment": harness.environment_line(RESULTS.read(), labels=("run", "task", "method")),
        "known": method_table("known"),
        "precision": method_table("precision"),
        "new": method_table("new"),
        "tune": tuning_table(),
        "tune new": new_tuning_table("tune new"),
        "tune new linear": new_tuning_table("tune new linear"),
    }
    harness.write_blocks(PAGE, blocks)


def format_scores(result: harness.Result) -> str:
    return ", ".join(f"{column} {result[column]:.4g}" for column in COLUMNS if column in result)


def quick() -> None:
    """Run each method once on few images."""
    for task, method in itertools.product(("known", "new"), METHODS):
        run = Run(task, method, 0, 1, tuple(RECIPES.get(method, {}).items()))
        print(f"{run.name}: {format_scores(execute(run, images_of(task, 0).first(2000, 500)))}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="runs whose name contains this text")
    parser.add_argument("--list", action="store_true", help="print the missing runs")
    parser.add_argument("--quick", action="store_true", help="few images, printed only")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    harness.use_single_thread()
    if arguments.table:
        return write_page()
    if arguments.quick:
        return quick()
    about = harness.environment("pytorch-metric-learning")
    done = RESULTS.measured("run")
    for run in all_runs():
        if (run.name,) in done or arguments.only not in run.name:
            continue
        print(run.name, flush=True)
        if not arguments.list:
            result = execute(run, images_of(run.task, run.number))
            RESULTS.append({**about, **result})
            print(f"  {format_scores(result)}", flush=True)


if __name__ == "__main__":
    main()
