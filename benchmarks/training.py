"""What wrapping a training loop costs: against a bare loop, by rows, in memory.

    python benchmarks/training.py            # everything, to benchmarks/results/engine.jsonl
    python benchmarks/training.py --quick    # the comparisons, but not a million rows; printed
    python benchmarks/training.py --table    # write the measured rows into docs/training.md

One CPU thread. What is compared takes turns, so that whatever else the machine does falls on
all of it, and the median of the paired ratios is reported.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import datetime
import json
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import sklearn
import skorch
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from sktriplet import TripletEmbedder
from sktriplet.losses import TripletLoss
from sktriplet.networks import MLP
from sktriplet.networks._embedding_network import EmbeddingNetwork, Standardizer
from sktriplet.training import BalancedBatchSampler, TripletNet

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "training.jsonl"
PAGE = HERE.parent / "docs" / "training.md"

N_FEATURES, HIDDEN, BATCH, EPOCHS = 64, (256, 128), 256, 3
# No members and no term beside the triplets: what the bare loops train.
ONE_NETWORK = {"hidden_layer_sizes": HIDDEN, "n_members": 1, "nca_weight": 0}
TURNS = 9


class Free(nn.Module):
    """A criterion that costs next to nothing."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.square().mean()


def table(n_rows: int, n_classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return rows around the centre of their class, classes overlapping."""
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_rows)
    centres = rng.standard_normal((n_classes, N_FEATURES), dtype=np.float32)
    X = rng.standard_normal((n_rows, N_FEATURES), dtype=np.float32)
    for start in range(0, n_rows, 10_000):  # all at once would take as much memory again
        X[start : start + 10_000] += centres[y[start : start + 10_000]]
    return X, y


def network(X: np.ndarray) -> EmbeddingNetwork:
    moments = StandardScaler().fit(X)
    standardizer = Standardizer(moments.mean_, moments.scale_)
    return EmbeddingNetwork(MLP((N_FEATURES,), 32, HIDDEN), standardizer=standardizer)


# What is compared. Each takes the same steps on the same batches.


def fit(X: np.ndarray, y: np.ndarray) -> TripletEmbedder:
    """TripletEmbedder.fit, checks of the data and all."""
    settings = {**ONE_NETWORK, "batch_size": BATCH, "max_epochs": EPOCHS}
    return TripletEmbedder(32, **settings, device="cpu", random_state=0).fit(X, y)


def bare_loop(X: np.ndarray, y: np.ndarray, criterion: nn.Module | None = None) -> None:
    """What one writes by hand: no history, no schedule, no look at the loss."""
    module = network(X).train()
    criterion = criterion or TripletLoss(0.5, reduction="mean")
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, fused=True)
    rows, labels = torch.from_numpy(X), torch.from_numpy(y)
    batches = BalancedBatchSampler(y, BATCH, 8, random_state=0)
    for _ in range(EPOCHS):
        for batch in batches:
            chosen = torch.from_numpy(batch)
            optimizer.zero_grad()
            criterion(module(rows[chosen]), labels[chosen]).backward()
            optimizer.step()


def network_alone(X: np.ndarray, y: np.ndarray) -> None:
    """Forward, backward and step on one batch again and again: nothing can be left out."""
    module, criterion = network(X[:1000]).train(), Free()
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, fused=True)
    rows = torch.from_numpy(X[:BATCH])
    for _ in range(EPOCHS * -(-len(X) // BATCH)):
        optimizer.zero_grad()
        criterion(module(rows), rows).backward()
        optimizer.step()


def skorch_free(X: np.ndarray, y: np.ndarray) -> None:
    """TripletNet with a criterion that costs nothing."""
    net = TripletNet(network(X), Free, max_epochs=EPOCHS, batch_size=BATCH, random_state=0)
    net.set_params(verbose=0).fit(X, y)


def bare_free(X: np.ndarray, y: np.ndarray) -> None:
    bare_loop(X, y, Free())


def bare_transform(module: nn.Module, X: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([module(rows) for rows in torch.from_numpy(X).split(4096)]).numpy()


def ratios(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float, float]:
    """Return the median of the paired ratios, and the median seconds of both."""
    ours(), theirs()
    seconds = []
    for turn in range(TURNS):
        pair = {}
        for run in (ours, theirs) if turn % 2 else (theirs, ours):
            start = perf_counter()
            run()
            pair[run] = perf_counter() - start
        seconds.append((pair[ours], pair[theirs]))
    mine, other = zip(*seconds, strict=True)
    ratio = statistics.median(a / b for a, b in seconds)
    return ratio, statistics.median(mine), statistics.median(other)


def compare() -> list[dict]:
    """Return a row for each comparison."""
    rows = []

    def add(name: str, aim: float, ours: Callable, theirs: Callable) -> None:
        ratio, mine, other = ratios(ours, theirs)
        rows.append({"what": name, "ratio": ratio, "aim": aim, "s": mine, "s_other": other})
        print(f"{name:70} {ratio:5.3f}  (aim <= {aim})  {mine:.3f} s / {other:.3f} s", flush=True)

    for n_classes in (10, 100):
        X, y = table(20_000, n_classes)
        of = f"20,000 rows of {n_classes} classes"
        ours = partial(fit, X, y)
        add(f"fit / bare loop, {of}", 1.08, ours, partial(bare_loop, X, y))
        add(f"fit / network alone, {of}", 1.35, ours, partial(network_alone, X, y))
    free = partial(skorch_free, X, y), partial(bare_free, X, y)
    add("skorch / bare loop, free criterion", 1.12, *free)
    embedder, many = fit(X, y), table(100_000)[0]
    both = partial(embedder.transform, many), partial(bare_transform, embedder.net_.module_, many)
    add("transform / bare forward, 100,000 rows", 1.15, *both)
    return rows


def seconds_a_step(n_rows: int) -> float:
    X, y = table(n_rows)
    start = perf_counter()
    embedder = fit_one_epoch(X, y)
    return (perf_counter() - start) / embedder.net_.history[-1]["train_batch_count"]


def fit_one_epoch(X: np.ndarray, y: np.ndarray) -> TripletEmbedder:
    settings = {**ONE_NETWORK, "batch_size": BATCH, "max_epochs": 1}
    return TripletEmbedder(32, **settings, device="cpu", random_state=0).fit(X, y)


def scale() -> list[dict]:
    """Return the time a step and the peak memory by rows."""
    sizes = (10_000, 100_000, 1_000_000)
    turns = [{n_rows: seconds_a_step(n_rows) for n_rows in sizes} for _ in range(3)]
    rows = [
        {
            "rows": n_rows,
            "ms_a_step": 1e3 * statistics.median(turn[n_rows] for turn in turns),
            "against_100_000": statistics.median(turn[n_rows] / turn[100_000] for turn in turns),
            "peak_mb": peak_megabytes(n_rows),
        }
        for n_rows in sizes
    ]
    for row in rows:
        print(row)
    return rows


def peak_megabytes(n_rows: int) -> float:
    """Return what a fit takes beyond its data and the imported interpreter."""
    command = [sys.executable, __file__, "--memory-of", str(n_rows)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report_memory(n_rows: int) -> None:
    X, y = table(n_rows)
    fit_one_epoch(X[:1000], y[:1000])
    before = peak_bytes()
    fit_one_epoch(X, y)
    print((peak_bytes() - before) / 1e6)


def peak_bytes() -> int:
    """Return the most memory that this process has held (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def environment() -> dict[str, str]:
    """Return what the figures depend on."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())[1]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{model} ({platform.machine()})",
        "python": platform.python_version(),
        **{module.__name__: module.__version__ for module in (torch, np, sklearn, skorch)},
    }


def write_page() -> None:
    """Put the tables of the results file between the marks of the page."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    compared = ["| | ratio | aim |", "| --- | --: | --: |"]
    scaled = ["| rows | ms a step | peak, MB |", "| --: | --: | --: |"]
    for row in rows:
        if "ratio" in row:
            compared.append(f"| {row['what']} | {row['ratio']:.2f} | <= {row['aim']:.2f} |")
        else:
            step, peak = row["ms_a_step"], row["peak_mb"]
            scaled.append(f"| {row['rows']:,} | {step:.2f} | {peak:.0f} |")
    tables = {
        "environment": ", ".join(f"{key} {rows[0][key]}" for key in environment()),
        "compared": "\n".join(compared),
        "scaled": "\n".join(scaled),
    }
    page = PAGE.read_text()
    for name, text in tables.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page, n_replaced = mark.subn(lambda at, text=text: f"{at[1]}\n{text}\n{at[2]}", page)
        if n_replaced != 1:
            raise SystemExit(f"{PAGE} has no place for {name!r}")
    PAGE.write_text(page)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the comparisons only")
    parser.add_argument("--table", action="store_true", help="write the results into the page")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        return report_memory(arguments.memory_of)
    if arguments.table:
        return write_page()
    rows = compare()
    if not arguments.quick:
        rows += scale()
        about = environment()
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("".join(json.dumps({**about, **row}) + "\n" for row in rows))


if __name__ == "__main__":
    main()
