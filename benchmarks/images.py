"""Fashion-MNIST: what is near what, on new images and on classes never seen in training.

    python benchmarks/images.py               # all that benchmarks/results/images.jsonl lacks
    python benchmarks/images.py --list        # what that is
    python benchmarks/images.py --only ours   # of these, the ones whose name holds "ours"
    python benchmarks/images.py --quick       # 2,000 rows, 1 epoch, printed: does it run?
    python benchmarks/images.py --speed       # what the wrapping and bfloat16 do to a step
    python benchmarks/images.py --table       # write the measured rows into docs/images.md

Each run is written down when it ends, so that the whole may be stopped and started again.
All methods get the same images, epochs, batches of 128 and augmentation; each network is
the same one behind the same standardization, trained by AdamW along half a cosine in
bfloat16 on one CPU thread. The tasks:

- ``tune``: 15,000 of the 60,000 training images, 10,000 others to look at. Every network
  has the same number of settings to choose from, and `RECIPES` holds what won.
- ``known``: 60,000 images, 10 classes, 3 seeds, looked at on the 10,000 test images.
- ``precision``: the embedder in bfloat16 and in float32, on the images and in the epochs of
  ``tune``, 3 seeds.
- ``new``: 5 classes drawn at random are trained on, the test images of the other 5 are
  looked at, 5 times.
- ``tune new``: 8,000 training images of 5 classes, 2,500 training images of the other 5 to look
  at, 3 times, in other draws. What suits new classes is another thing than what suits known ones,
  so that the network is chosen anew: a linear map, for every method.
- ``tune new linear``: the same with all 30,000 images of the 5 classes, since more of them are more
  steps of an epoch. It chooses what is left to choose; `NEW_RECIPES` holds what won.

Needs pytorch-metric-learning; finds Debian's dataset-fashion-mnist, or asks OpenML.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import datetime
import gzip
import itertools
import json
import math
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skorch
import torch
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import nn
from torch.nn import functional as F

import sktriplet
from sktriplet import TripletEmbedder
from sktriplet.augmentation import AUGMENTATIONS
from sktriplet.losses import TripletLoss
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.networks import ConvNet
from sktriplet.networks._embedding_network import ChannelsFirst, EmbeddingNetwork, Standardizer
from sktriplet.training import BalancedBatchSampler
from sktriplet.training._data import as_tensor

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "images.jsonl"
PAGE = HERE.parent / "docs" / "images.md"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")

N_COMPONENTS = 32
BATCH, PER_CLASS = 128, 8
EPOCHS, TUNING_EPOCHS = 10, 5
TUNING_ROWS, HELD_OUT_ROWS = 15_000, 10_000
NEW_TUNING_ROWS, NEW_HELD_OUT_ROWS = 8_000, 2_500
SEEDS, CLASS_SPLITS, TUNING_SPLITS = range(3), range(5), range(100, 103)

Embed = Callable[[NDArray], NDArray]


@dataclass
class Images:
    """What is trained on and what is looked at."""

    train: NDArray
    train_labels: NDArray
    test: NDArray
    test_labels: NDArray


@dataclass
class Fitted:
    """What a method has learned."""

    embed: Embed
    classify: Embed | None = None


# Data.


def load_fashion_mnist() -> Images:
    """Return the original files' 60,000 and 10,000 images."""
    if DEBIAN.exists():

        def read(name: str, offset: int) -> NDArray:
            with gzip.open(DEBIAN / f"{name}-ubyte.gz") as file:
                return np.frombuffer(file.read(), np.uint8, offset=offset)

        images = [read(f"{part}-images-idx3", 16) for part in ("train", "t10k")]
        labels = [read(f"{part}-labels-idx1", 8) for part in ("train", "t10k")]
        train, test = (part.reshape(-1, 28, 28) for part in images)
        return Images(train, labels[0], test, labels[1])
    X, y = fetch_openml("Fashion-MNIST", version=1, return_X_y=True, as_frame=False)
    X, y = X.astype(np.uint8).reshape(-1, 28, 28), y.astype(np.uint8)
    return Images(X[:60_000], y[:60_000], X[60_000:], y[60_000:])


def images_of(task: str, number: int) -> Images:
    """Return the images of a task; in ``new``, the number draws the classes."""
    every = load_fashion_mnist()
    if task == "known":
        return every
    rng = np.random.default_rng(number)
    if task in ("tune", "precision"):
        rows = np.random.default_rng(0).permutation(len(every.train))
        held_out, chosen = np.split(rows[: HELD_OUT_ROWS + TUNING_ROWS], [HELD_OUT_ROWS])
        train, labels = every.train, every.train_labels
        return Images(train[chosen], labels[chosen], train[held_out], labels[held_out])
    seen, unseen = np.split(rng.permutation(10), 2)
    if task.startswith("tune new"):
        of_seen, of_unseen = (
            rng.permutation(np.flatnonzero(np.isin(every.train_labels, classes)))
            for classes in (seen, unseen)
        )
        chosen, held_out = of_seen, of_unseen[:NEW_HELD_OUT_ROWS]
        if task == "tune new":
            chosen = of_seen[:NEW_TUNING_ROWS]
        train, labels = every.train, every.train_labels
        return Images(train[chosen], labels[chosen], train[held_out], labels[held_out])
    train, test = np.isin(every.train_labels, seen), np.isin(every.test_labels, unseen)
    return Images(
        every.train[train], every.train_labels[train], every.test[test], every.test_labels[test]
    )


class LinearMap(nn.Module):
    """A weight for each pixel and each component."""

    def __init__(self, input_shape: tuple[int, ...], n_components: int):
        super().__init__()
        self.layer = nn.Linear(math.prod(input_shape), n_components)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layer(X.flatten(1))


NETWORKS = {"ConvNet": ConvNet, "linear": LinearMap}


# Methods. Each takes the images, a seed, the epochs and its settings.


def flat(images: NDArray) -> NDArray[np.float32]:
    """Return images as rows."""
    return images.reshape(len(images), -1).astype(np.float32)


def raw_pixels(images: Images, seed: int, epochs: int) -> Fitted:
    """Learn nothing."""
    return Fitted(flat)


def pca(images: Images, seed: int, epochs: int) -> Fitted:
    """Keep the directions of largest variance, as many as the networks have components."""
    fitted = PCA(N_COMPONENTS, random_state=seed).fit(flat(images.train))
    return Fitted(lambda X: fitted.transform(flat(X)))


def lda(images: Images, seed: int, epochs: int) -> Fitted:
    """Keep the directions in which classes differ most, of which there are 9."""
    fitted = LinearDiscriminantAnalysis().fit(flat(images.train), images.train_labels)
    return Fitted(lambda X: fitted.transform(flat(X)))


def ours(
    images: Images,
    seed: int,
    epochs: int,
    *,
    lr: float,
    augment: str | None,
    precision: str = "bfloat16",
    network: str = "ConvNet",
    **settings: Any,
) -> Fitted:
    """Train as the package does."""
    embedder = TripletEmbedder(
        N_COMPONENTS,
        module="auto" if network == "ConvNet" else NETWORKS[network],
        batch_size=BATCH,
        samples_per_class=PER_CLASS,
        max_epochs=epochs,
        lr=lr,
        augment=augment,
        precision=precision,
        random_state=seed,
        device="cpu",
        **settings,
    )
    return Fitted(embedder.fit(images.train, images.train_labels).transform)


def network_of(
    images: Images,
    augment: str | None,
    *,
    normalize: bool,
    precision: str = "bfloat16",
    network: str = "ConvNet",
) -> EmbeddingNetwork:
    """Return the network that `ours` trains, for another loop."""
    return EmbeddingNetwork(
        NETWORKS[network]((1, 28, 28), N_COMPONENTS),
        layout=ChannelsFirst((1, 28, 28)),
        augment=AUGMENTATIONS[augment] if augment else None,
        standardizer=Standardizer(images.train.mean(), images.train.std()),
        normalize=normalize,
        precision=precision,
    )


def trained(
    modules: nn.Module,
    images: Images,
    batches: Callable[[], Iterator[NDArray]],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    epochs: int,
    lr: float,
) -> None:
    """Train in a loop such as one writes by hand."""
    optimizer = torch.optim.AdamW(modules.parameters(), lr=lr, weight_decay=1e-2, fused=True)
    n_steps = epochs * math.ceil(len(images.train) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * min(step / n_steps, 1))) / 2
    )
    labels = images.train_labels.astype(np.int64)
    for _ in range(epochs):
        for rows in batches():
            optimizer.zero_grad()
            loss_of(as_tensor(images.train[rows]), as_tensor(labels[rows])).backward()
            optimizer.step()
            schedule.step()
    modules.eval()


def in_parts(network: Callable, X: NDArray) -> NDArray:
    """Pass images through a network, some thousand at a time."""
    with torch.inference_mode():
        parts = [network(as_tensor(X[i : i + 2000])).numpy() for i in range(0, len(X), 2000)]
    return np.concatenate(parts)


def cross_entropy(
    images: Images,
    seed: int,
    epochs: int,
    *,
    lr: float,
    augment: str | None,
    smoothing: float = 0,
    network: str = "ConvNet",
) -> Fitted:
    """Train a linear classifier on top of the network, and take either's output."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    body = network_of(images, augment, normalize=False, network=network)
    classes, codes = np.unique(images.train_labels, return_inverse=True)
    classifier = nn.Linear(N_COMPONENTS, len(classes))
    images = Images(images.train, codes, images.test, images.test_labels)

    def shuffled() -> Iterator[NDArray]:
        order = rng.permutation(len(codes))
        return (order[i : i + BATCH] for i in range(0, len(order), BATCH))

    def loss_of(X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(classifier(body(X)), y, label_smoothing=smoothing)

    trained(nn.Sequential(body, classifier), images, shuffled, loss_of, epochs, lr)
    return Fitted(
        lambda X: in_parts(lambda part: F.normalize(body(part)), X),
        lambda X: classes[in_parts(lambda part: classifier(body(part)), X).argmax(axis=1)],
    )


def pml(
    images: Images,
    seed: int,
    epochs: int,
    *,
    lr: float,
    augment: str | None,
    margin: float,
    network: str = "ConvNet",
) -> Fitted:
    """Train with pytorch-metric-learning's sampler, semi-hard miner and triplet loss."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner
    from pytorch_metric_learning.samplers import MPerClassSampler

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # its sampler draws from there
    body = network_of(images, augment, normalize=True, network=network)
    distance = LpDistance(p=2, power=2, normalize_embeddings=False)
    miner = TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=distance)
    loss = TripletMarginLoss(margin=margin, distance=distance)
    # A batch must hold all its classes alike, and 5 classes of 8 do not fill one.
    n_classes = len(np.unique(images.train_labels))
    sampler = MPerClassSampler(
        images.train_labels,
        max(PER_CLASS, BATCH // n_classes),
        length_before_new_iter=len(images.train),
    )

    def balanced() -> Iterator[NDArray]:
        rows = np.fromiter(sampler, np.int64)
        return (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))

    def loss_of(X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        embeddings = body(X)
        return loss(embeddings, y, miner(embeddings, y))

    trained(body, images, balanced, loss_of, epochs, lr)
    return Fitted(lambda X: in_parts(body, X))


METHODS: dict[str, Callable[..., Fitted]] = {
    "raw pixels": raw_pixels,
    "PCA": pca,
    "LDA": lda,
    "cross-entropy": cross_entropy,
    "PML": pml,
    "ours": ours,
}
LEARNING_RATES = (1e-3, 2e-3, 4e-3)
GRIDS: dict[str, list[dict[str, Any]]] = {
    "cross-entropy": [
        {"lr": lr, "smoothing": smoothing} for lr in LEARNING_RATES for smoothing in (0.0, 0.1)
    ],
    "PML": [{"lr": lr, "margin": margin} for lr in LEARNING_RATES for margin in (0.2, 0.5)],
    "ours": [{"lr": lr, "margin": margin} for lr in LEARNING_RATES for margin in (0.2, 0.5)],
}
AUGMENT = "flip"
RECIPES: dict[str, dict[str, Any]] = {
    "cross-entropy": {"lr": 4e-3, "smoothing": 0.1, "augment": AUGMENT},
    "PML": {"lr": 4e-3, "margin": 0.2, "augment": AUGMENT},
    "ours": {"lr": 2e-3, "margin": 0.5, "augment": AUGMENT},
}
NEW_EPOCHS = (1, 4)
OF_ITS_OWN: dict[str, dict[str, tuple[float, ...]]] = {
    "cross-entropy": {"smoothing": (0.0, 0.1)},
    "PML": {"margin": (0.1, 0.5)},
    "ours": {"margin": (0.1, 0.5)},
}
NEW_RECIPES: dict[str, tuple[int, dict[str, Any]]] = {
    "cross-entropy": (1, {"lr": 5e-4, "smoothing": 0.2, "augment": None, "network": "linear"}),
    "PML": (1, {"lr": 5e-4, "margin": 0.05, "augment": None, "network": "linear"}),
    "ours": (1, {"lr": 2e-3, "margin": 0.05, "augment": None, "network": "linear"}),
}


LINEAR_LEARNING_RATES = (5e-4, 2e-3)
OF_THE_LINEAR_MAP: dict[str, dict[str, tuple[float, ...]]] = {
    "cross-entropy": {"smoothing": (0.1, 0.2)},
    "PML": {"margin": (0.05, 0.1)},
    "ours": {"margin": (0.05, 0.1)},
}


def linear_grid(method: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield numbers of epochs and settings of the linear map to choose from for new classes."""
    ((name, values),) = OF_THE_LINEAR_MAP[method].items()
    for lr, epochs, value in itertools.product(LINEAR_LEARNING_RATES, NEW_EPOCHS, values):
        yield epochs, {"lr": lr, name: value, "augment": None, "network": "linear"}


def new_grid(method: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield numbers of epochs and settings to choose from for new classes."""
    ((name, values),) = OF_ITS_OWN[method].items()
    for network, epochs, value in itertools.product(NETWORKS, NEW_EPOCHS, values):
        yield epochs, {"lr": 2e-3, name: value, "augment": None, "network": network}


# Runs.


@dataclass(frozen=True)
class Run:
    """One method trained once."""

    task: str
    method: str
    number: int
    epochs: int
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Return what identifies it in the results."""
        settings = ", ".join(f"{key}={value}" for key, value in self.settings)
        return f"{self.task} {self.number}: {self.method} ({self.epochs} epochs, {settings})"


def all_runs() -> Iterator[Run]:
    """Return all there is to do, the choice of recipes first."""
    for method, grid in GRIDS.items():
        for settings in grid:
            chosen = tuple({**settings, "augment": AUGMENT}.items())
            yield Run("tune", method, 0, TUNING_EPOCHS, chosen)
    for number, method in itertools.product(TUNING_SPLITS, METHODS):
        if method not in OF_ITS_OWN:
            yield Run("tune new", method, number, 0)
            continue
        for epochs, settings in new_grid(method):
            yield Run("tune new", method, number, epochs, tuple(settings.items()))
        for epochs, settings in linear_grid(method):
            yield Run("tune new linear", method, number, epochs, tuple(settings.items()))
    for number, method in itertools.product(CLASS_SPLITS, METHODS):
        if method not in OF_ITS_OWN:
            yield Run("new", method, number, 0)
        elif method in NEW_RECIPES:
            epochs, settings = NEW_RECIPES[method]
            yield Run("new", method, number, epochs, tuple(settings.items()))
    for number, method in itertools.product(SEEDS, METHODS):
        is_network = method in RECIPES
        if is_network or number == 0:
            settings = tuple(RECIPES.get(method, {}).items())
            yield Run("known", method, number, EPOCHS if is_network else 0, settings)
    for seed, precision in itertools.product(SEEDS, ("bfloat16", "float32")):
        settings = tuple({**RECIPES["ours"], "precision": precision}.items())
        yield Run("precision", "ours", seed, TUNING_EPOCHS, settings)


def carried_out(run: Run, images: Images) -> dict[str, Any]:
    """Train, and look at the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = METHODS[run.method](images, run.number, run.epochs, **dict(run.settings))
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    embedded = fitted.embed(images.test)
    nearest = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(embedded)
    # A row's own distance may not be the smallest one, by rounding.
    neighbors = nearest.kneighbors(embedded, return_distance=False)
    is_itself = neighbors[:, 0] == np.arange(len(neighbors))
    first = np.where(is_itself, neighbors[:, 1], neighbors[:, 0])
    row = {
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
        row["accuracy_5nn"] = float(knn.score(embedded, images.test_labels))
        if fitted.classify is not None:
            guessed = fitted.classify(images.test)
            row["accuracy_argmax"] = float(np.mean(guessed == images.test_labels))
    return row


def speed() -> list[dict[str, Any]]:
    """Compare the time of steps, in turns, and return a row for each ratio.

    Processor time, since it is one thread and the machine may be shared.
    """
    images = images_of("known", 0)
    n_rows, turns = 20 * BATCH, 11
    images = Images(images.train[:n_rows], images.train_labels[:n_rows], *[images.test] * 2)
    labels = images.train_labels.astype(np.int64)

    def fit(precision: str) -> None:
        ours(images, 0, 1, lr=2e-3, augment=None, precision=precision)

    def bare(precision: str) -> None:
        torch.manual_seed(0)
        network = network_of(images, None, normalize=True, precision=precision)
        criterion = TripletLoss(margin=0.5, reduction="mean", nca_weight=2.0)
        sampler = BalancedBatchSampler(labels, BATCH, PER_CLASS, random_state=0)
        trained(
            network,
            images,
            lambda: iter(sampler),
            lambda X, y: criterion(network(X), y),
            epochs=1,
            lr=2e-3,
        )

    contenders = {
        (name, precision): partial(train, precision)
        for name, train in (("fit", fit), ("bare loop", bare))
        for precision in ("bfloat16", "float32")
    }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for _ in range(turns):
        for key, train in contenders.items():
            start = time.process_time()
            train()
            seconds[key].append(time.process_time() - start)
    ms = {key: statistics.median(values) / 20 * 1e3 for key, values in seconds.items()}
    fastest = {key: min(values) for key, values in seconds.items()}
    compared = [
        ("fit / bare loop, bfloat16", ("fit", "bfloat16"), ("bare loop", "bfloat16")),
        ("fit / bare loop, float32", ("fit", "float32"), ("bare loop", "float32")),
        ("float32 / bfloat16, fit", ("fit", "float32"), ("fit", "bfloat16")),
    ]
    return [
        {
            "run": f"speed: {what}",
            "task": "speed",
            "ratio": ms[one] / ms[other],
            "ratio_of_fastest": fastest[one] / fastest[other],
            "ms": ms[one],
            "ms_other": ms[other],
        }
        for what, one, other in compared
    ]


def environment() -> dict[str, str]:
    """Return what the figures depend on."""
    import pytorch_metric_learning

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())[1]
    modules = (np, sklearn, skorch, torch, sktriplet, pytorch_metric_learning)
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{model} ({platform.machine()})",
        "python": platform.python_version(),
        **{module.__name__: module.__version__ for module in modules},
    }


def results() -> list[dict[str, Any]]:
    """Return what has been measured."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


# Reporting.

COLUMNS = {
    "accuracy_5nn": "5-NN accuracy",
    "accuracy_argmax": "argmax accuracy",
    "recall_at_1": "recall@1",
    "map_at_r": "MAP@R",
    "cpu_seconds": "CPU seconds",
}


def table(task: str) -> str:
    """Return means, and how many runs they are of, a line for each method."""
    groups: dict[str, list[dict[str, Any]]] = {}
    chosen = {run.name for run in all_runs()}
    for row in results():
        if row["task"] == task and row["run"] in chosen:
            precision = row["settings"].get("precision", "")
            groups.setdefault(f"{row['method']} {precision}".strip(), []).append(row)
    if task == "new" and groups:
        # Draws of classes differ by more than methods do: take those that all have.
        shared = set.intersection(*[{row["number"] for row in g} for g in groups.values()])
        groups = {
            method: [row for row in group if row["number"] in shared]
            for method, group in groups.items()
        }
    columns = [
        column for column in COLUMNS if any(column in row for g in groups.values() for row in g)
    ]
    lines = [
        "| | runs | " + " | ".join(COLUMNS[column] for column in columns) + " |",
        "| --- |" + " --: |" * (1 + len(columns)),
    ]
    for method, rows in groups.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows if column in row]
            digits = 0 if column == "cpu_seconds" else 4
            cells.append(f"{statistics.mean(values):.{digits}f}" if values else "")
        lines.append(f"| {method} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed_table() -> str:
    """Return the ratios of steps' times."""
    lines = ["| | ratio | of the fastest | ms | ms |", "| --- | --: | --: | --: | --: |"]
    for row in results():
        if row["task"] == "speed":
            what = row["run"].removeprefix("speed: ")
            figures = [f"{row[key]:.2f}" for key in ("ratio", "ratio_of_fastest")]
            figures += [f"{row[key]:.0f}" for key in ("ms", "ms_other")]
            lines.append(f"| {what} | {' | '.join(figures)} |")
    return "\n".join(lines)


def tuning_table() -> str:
    """Return the accuracies that the recipes were chosen by."""
    lines = ["| | settings | 5-NN accuracy | argmax accuracy |", "| --- | --- | --: | --: |"]
    for row in results():
        if row["task"] == "tune":
            settings = ", ".join(f"{name} {value}" for name, value in row["settings"].items())
            guessed = row.get("accuracy_argmax")
            lines.append(
                f"| {row['method']} | {settings} | {row['accuracy_5nn']:.4f} | "
                f"{'' if guessed is None else f'{guessed:.4f}'} |"
            )
    return "\n".join(lines)


def new_tuning_table(task: str) -> str:
    """Return means of the retrieval scores by which recipes for new classes are chosen."""
    scores: dict[str, list[float]] = {}
    for row in results():
        if row["task"] == task:
            settings = ", ".join(
                f"{name} {value}" for name, value in row["settings"].items() if value is not None
            )
            epochs = f"epochs {row['epochs']}, " if row["epochs"] else ""
            scores.setdefault(f"{row['method']} | {epochs}{settings}", []).append(row["map_at_r"])
    lines = ["| | settings | MAP@R |", "| --- | --- | --: |"]
    return "\n".join(
        lines
        + [
            f"| {what} | {statistics.mean(found):.4f} |"
            for what, found in scores.items()
            if len(found) == len(TUNING_SPLITS)
        ]
    )


def write_page() -> None:
    """Put the tables of the results file between the marks of the page."""
    first = results()[0]
    tables = {
        "environment": ", ".join(f"{key} {first[key]}" for key in environment() if key in first),
        "known": table("known"),
        "precision": table("precision"),
        "new": table("new"),
        "tune": tuning_table(),
        "tune new": new_tuning_table("tune new"),
        "tune new linear": new_tuning_table("tune new linear"),
        "speed": speed_table(),
    }
    page = PAGE.read_text()
    for name, text in tables.items():
        if text.endswith("--: |") or text.endswith("--- |"):
            text = "Not measured yet."
        mark = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page, n_replaced = mark.subn(
            lambda found, text=text: f"{found[1]}\n{text}\n{found[2]}", page
        )
        if n_replaced != 1:
            raise SystemExit(f"{PAGE} has no place for {name!r}")
    PAGE.write_text(page)


def quick() -> None:
    """Run each method once on few rows and print what comes out."""
    for task, method in itertools.product(("known", "new"), METHODS):
        images = images_of(task, 0)
        images = Images(
            images.train[:2000],
            images.train_labels[:2000],
            images.test[:500],
            images.test_labels[:500],
        )
        run = Run(task, method, 0, 1, tuple(RECIPES.get(method, {}).items()))
        row = carried_out(run, images)
        print(f"{run.name}: " + ", ".join(f"{c} {row[c]:.4g}" for c in COLUMNS if c in row))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="runs whose name holds this")
    parser.add_argument("--list", action="store_true", help="print what there is to run")
    parser.add_argument("--quick", action="store_true", help="few rows, printed only")
    parser.add_argument("--speed", action="store_true", help="time steps, in place of runs")
    parser.add_argument("--table", action="store_true", help="write the results into the page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        return write_page()
    if arguments.quick:
        return quick()
    if arguments.speed:
        others = [row for row in results() if row["task"] != "speed"]
        rows = others + [environment() | row for row in speed()]
        RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return print(speed_table())
    done = {row["run"] for row in results()}
    for run in all_runs():
        if run.name in done or arguments.only not in run.name:
            continue
        print(run.name, flush=True)
        if arguments.list:
            continue
        row = environment() | carried_out(run, images_of(run.task, run.number))
        print("  " + ", ".join(f"{c} {row[c]:.4f}" for c in COLUMNS if c in row), flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
