"""Overhead of training with the package: relative to a bare loop, by data size, and in memory.

    python benchmarks/training.py            # everything, to benchmarks/results/training.jsonl
    python benchmarks/training.py --quick    # without the runs by data size, printed only
    python benchmarks/training.py --classes  # time and memory with many classes, replaced there
    python benchmarks/training.py --table    # write the results to docs/benchmarks/training.md

Runs on one CPU thread. Compared methods are interleaved, and the ratios are medians of paired
ratios.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from time import perf_counter, process_time
from typing import Any

import _harness as harness
import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from sktriplet import TripletEmbedder
from sktriplet.losses import TripletLoss
from sktriplet.networks import MLP
from sktriplet.networks._embedding_network import EmbeddingNetwork, Standardizer
from sktriplet.training import BalancedBatchSampler, TripletNet

RESULTS = harness.ResultFile("training")
PAGE = harness.PAGES / "training.md"

N_FEATURES, HIDDEN, BATCH, EPOCHS = 64, (256, 128), 256, 3
# One member and no NCA term, like the bare loops.
ONE_NETWORK = {"hidden_layer_sizes": HIDDEN, "n_members": 1, "nca_weight": 0}
TURNS = 9


class FreeCriterion(nn.Module):
    """A criterion of negligible cost."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.square().mean()


def table_data(n_samples: int, n_classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of overlapping Gaussian classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_samples)
    centers = rng.standard_normal((n_classes, N_FEATURES), dtype=np.float32)
    X = rng.standard_normal((n_samples, N_FEATURES), dtype=np.float32)
    for start in range(0, n_samples, 10_000):  # Adding all at once would double the memory.
        X[start : start + 10_000] += centers[y[start : start + 10_000]]
    return X, y


def network(X: np.ndarray) -> EmbeddingNetwork:
    statistics = StandardScaler().fit(X)
    scaler = Standardizer(statistics.mean_, statistics.scale_)
    return EmbeddingNetwork(MLP((N_FEATURES,), 32, HIDDEN), scaler=scaler)


# Compared methods. All take the same steps on the same batches.


def fit(X: np.ndarray, y: np.ndarray, epochs: int = EPOCHS) -> TripletEmbedder:
    """Fit a `TripletEmbedder`, including its checks of the data."""
    settings = {**ONE_NETWORK, "batch_size": BATCH, "max_epochs": epochs}
    return TripletEmbedder(32, **settings, device="cpu", random_state=0).fit(X, y)


def bare_loop(
    X: np.ndarray,
    y: np.ndarray,
    epochs: int = EPOCHS,
    device: str = "cpu",
    *,
    build: Callable[[np.ndarray], nn.Module] = network,
    criterion: nn.Module | None = None,
    resident: bool = False,
) -> None:
    """Train without history, learning rate schedule, or a check of the loss.

    If `resident`, all samples are on the device from the start.
    """
    module = build(X).to(device).train()
    criterion = criterion or TripletLoss(margin=0.5, reduction="mean")
    fused = torch.device(device).type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, fused=fused)
    X, labels = torch.from_numpy(X), torch.from_numpy(y)
    if resident:
        X, labels = X.to(device), labels.to(device)
    batches = BalancedBatchSampler(y, BATCH, 8, min_batches=10, random_state=0)
    for _ in range(epochs):
        for batch in map(torch.from_numpy, batches):
            batch = batch.to(X.device)
            optimizer.zero_grad()
            criterion(module(X[batch].to(device)), labels[batch].to(device)).backward()
            optimizer.step()


def network_alone(X: np.ndarray, y: np.ndarray) -> None:
    """Take forward, backward and optimizer steps on a single batch, without mining."""
    module, criterion = network(X[:1000]).train(), FreeCriterion()
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, fused=True)
    batch = torch.from_numpy(X[:BATCH])
    for _ in range(EPOCHS * -(-len(X) // BATCH)):
        optimizer.zero_grad()
        criterion(module(batch), batch).backward()
        optimizer.step()


def skorch_free(X: np.ndarray, y: np.ndarray) -> None:
    """Train a `TripletNet` with the free criterion."""
    settings = {"max_epochs": EPOCHS, "batch_size": BATCH, "random_state": 0, "verbose": 0}
    TripletNet(network(X), FreeCriterion, **settings).fit(X, y)


def bare_transform(module: nn.Module, X: np.ndarray, device: str = "cpu") -> np.ndarray:
    with torch.inference_mode():
        parts = [module(batch.to(device)).cpu() for batch in torch.from_numpy(X).split(4096)]
    return torch.cat(parts).numpy()


def compare_all() -> list[harness.Result]:
    """Return one result per comparison."""
    results = []

    def add(name: str, target: float, ours: Callable, theirs: Callable) -> None:
        result = {"what": name, "aim": target, **harness.compare(ours, theirs, TURNS)}
        results.append(result)
        seconds = f"{result['s']:.3f} s / {result['s_other']:.3f} s"
        print(f"{name:70} {result['ratio']:5.3f}  (target <= {target})  {seconds}", flush=True)

    for n_classes in (10, 100):
        X, y = table_data(20_000, n_classes)
        data = f"20,000 samples of {n_classes} classes"
        ours = partial(fit, X, y)
        add(f"fit / bare loop, {data}", 1.08, ours, partial(bare_loop, X, y))
        add(f"fit / network alone, {data}", 1.35, ours, partial(network_alone, X, y))
    free = partial(skorch_free, X, y), partial(bare_loop, X, y, criterion=FreeCriterion())
    add("skorch / bare loop, free criterion", 1.12, *free)
    embedder, many = fit(X, y), table_data(100_000)[0]
    both = partial(embedder.transform, many), partial(bare_transform, embedder.net_.module_, many)
    add("transform / bare forward, 100,000 samples", 1.15, *both)
    return results


def seconds_per_step(n_samples: int) -> float:
    X, y = table_data(n_samples)
    start = perf_counter()
    embedder = fit(X, y, epochs=1)
    return (perf_counter() - start) / embedder.net_.history[-1]["train_batch_count"]


def scale() -> list[harness.Result]:
    """Return the time per step and the peak memory by number of samples."""
    sizes = (10_000, 100_000, 1_000_000)
    turns = [{n_samples: seconds_per_step(n_samples) for n_samples in sizes} for _ in range(3)]
    results = [
        {
            "rows": n_samples,
            "ms_a_step": 1e3 * statistics.median(turn[n_samples] for turn in turns),
            "against_100_000": statistics.median(turn[n_samples] / turn[100_000] for turn in turns),
            "peak_mb": harness.memory_in_subprocess(__file__, n_samples) / 1e6,
        }
        for n_samples in sizes
    ]
    for result in results:
        print(result)
    return results


def report_memory(n_samples: int) -> None:
    """Print the memory of a fit in bytes, without its data and the imported packages."""
    X, y = table_data(n_samples)
    fit(X[:1000], y[:1000], epochs=1)
    print(harness.memory_growth(lambda: fit(X, y, epochs=1)))


# Many classes: kind of data, number of samples, number of classes. The first one of each kind is
# small.
MANY_CLASSES = (
    ("table", 10_000, 100),
    ("table", 1_000_000, 100_000),
    ("images", 2_400, 120),
    ("images", 100_000, 1_200),
)
N_STEPS, N_MEASURED, BLOCK_SIZE = 45, 8, 5


def class_data(kind: str, n_samples: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tables as in `table_data`, or uint8 images of 32 x 32 pixels, of noise."""
    if kind == "table":
        return table_data(n_samples, n_classes)
    rng = np.random.default_rng(0)
    X = rng.integers(256, size=(n_samples, 32, 32), dtype=np.uint8)
    return X, rng.integers(n_classes, size=n_samples)


def default_fit(X: np.ndarray, y: np.ndarray, **settings: Any) -> TripletEmbedder:
    """Fit a `TripletEmbedder` with its default network, for an epoch."""
    settings = {"max_epochs": 1, "device": "cpu", "random_state": 0} | settings
    return TripletEmbedder(**settings).fit(X, y)


def training_steps(kind: str, n_samples: int, n_classes: int) -> Iterator[None]:
    """Prepare training on a data set; then take some steps of it at each call of ``next``."""
    X, y = class_data(kind, n_samples, n_classes)
    embedder = TripletEmbedder(device="cpu", random_state=0)
    fitted, dataset = embedder._prepare(X, y, resume=False)
    net = fitted["net_"]
    net.on_epoch_begin(net)
    while True:
        batches = iter(net.get_iterator(dataset, training=True))
        for batch in islice(batches, 1, None):  # The first one draws the whole epoch.
            net.train_step(batch)
            yield


def many_classes() -> list[harness.Result]:
    """Return the time of a step, of drawing an epoch, and the peak memory, by data set.

    Blocks of steps on all data sets are interleaved. Times are CPU times.
    """
    steps = {key: training_steps(*key) for key in MANY_CLASSES}

    def block(key: tuple[str, int, int]) -> None:
        for _ in range(BLOCK_SIZE):
            next(steps[key])

    blocks = {key: partial(block, key) for key in MANY_CLASSES}
    harness.time_in_turns(blocks, 1)  # untimed
    seconds = harness.time_in_turns(blocks, N_MEASURED, process_time)
    results = []
    for key in MANY_CLASSES:
        kind, n_samples, n_classes = key
        small = next(other for other in MANY_CLASSES if other[0] == kind)
        y = class_data(*key)[1]
        start = process_time()
        sampler = BalancedBatchSampler(y, random_state=0)
        n_batches = sum(1 for _ in sampler)
        sampling = (process_time() - start) / n_batches
        step = statistics.median(seconds[key]) / BLOCK_SIZE
        results.append(
            {
                "many_classes": kind,
                "rows": n_samples,
                "classes": n_classes,
                "step_ratio": harness.median_ratio(seconds[key], seconds[small]),
                "sampling_share": sampling / (sampling + step),
                "data_mb": class_data(*key)[0].nbytes / 1e6,
                "peak_mb": harness.memory_in_subprocess(__file__, *key) / 1e6,
            }
        )
        print(results[-1], flush=True)
    return results


def report_memory_of_classes(kind: str, n_samples: int, n_classes: int) -> None:
    """Print the memory of preparing a fit, drawing an epoch, and some steps, without the data."""
    default_fit(*class_data(kind, 1000, 10))
    X, y = class_data(kind, n_samples, n_classes)

    def train() -> None:
        embedder = TripletEmbedder(device="cpu", random_state=0)
        fitted, dataset = embedder._prepare(X, y, resume=False)
        net = fitted["net_"]
        net.on_epoch_begin(net)
        for batch in islice(net.get_iterator(dataset, training=True), N_STEPS):
            net.train_step(batch)

    print(harness.memory_growth(train))


def write_page() -> None:
    """Write the tables."""
    results = RESULTS.read()
    compared = [
        (
            result["what"].replace("rows", "samples"),  # Older results say "rows".
            f"{result['ratio']:.2f}",
            f"<= {result['aim']:.2f}",
        )
        for result in results
        if "ratio" in result
    ]
    scaled = [
        (f"{result['rows']:,}", f"{result['ms_a_step']:.2f}", f"{result['peak_mb']:.0f}")
        for result in results
        if "ms_a_step" in result
    ]
    many = [
        (
            f"{result['rows']:,} {'rows' if result['many_classes'] == 'table' else 'images'}",
            f"{result['classes']:,}",
            f"{result['step_ratio']:.2f}",
            f"{result['sampling_share']:.1%}",
            f"{result['data_mb']:.0f}",
            f"{result['peak_mb']:.0f}",
        )
        for result in results
        if "many_classes" in result
    ]
    header = (
        *("data", "classes", "time per step, relative", "share of sampling"),
        *("data, MB", "peak beyond the data, MB"),
    )
    blocks = {
        "environment": harness.environment_line(results, labels=("what", "many_classes")),
        "many classes": harness.markdown_table(header, many, "lrrrrr"),
        "compared": harness.markdown_table(("comparison", "ratio", "target"), compared, "lrr"),
        "scaled": harness.markdown_table(("samples", "ms per step", "peak, MB"), scaled, "rrr"),
    }
    harness.write_blocks(PAGE, blocks)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the comparisons, printed only")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    parser.add_argument("--classes", action="store_true", help="only the runs with many classes")
    parser.add_argument("--memory-of", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    harness.use_single_thread()
    if arguments.memory_of:
        *kind, n_samples = arguments.memory_of[:-1] or arguments.memory_of
        if kind:
            return report_memory_of_classes(*kind, int(n_samples), int(arguments.memory_of[-1]))
        return report_memory(int(n_samples))
    if arguments.table:
        return write_page()
    if arguments.classes:
        others = [result for result in RESULTS.read() if "many_classes" not in result]
        about = harness.environment()
        return RESULTS.replace([*others, *({**about, **result} for result in many_classes())])
    results = compare_all()
    if not arguments.quick:
        results += scale() + many_classes()
        about = harness.environment()
        RESULTS.replace({**about, **result} for result in results)


if __name__ == "__main__":
    main()
