"""What a GPU gives to fit, transform and mining, and whether it computes the same.

    python benchmarks/gpu.py                       # on CUDA, to benchmarks/results/gpu.jsonl
    python benchmarks/gpu.py --device cpu --quick  # small and printed only: does it run?
    python benchmarks/gpu.py --table               # write the results into docs/distributed.md

What is compared takes turns, and the median of the paired ratios is reported, as in
`benchmarks/training.py`. Times on the CPU are with as many threads as it has cores.
"""

import argparse
import json
import os
import re
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from engine import BATCH, ONE_NETWORK, environment, network, table

# isort: split
# engine has set the number of threads before it imported these.
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.losses import TripletLoss
from sktriplet.losses._triplet import MINING_STRATEGIES
from sktriplet.mining import MINERS
from sktriplet.networks import ConvNet
from sktriplet.networks._embedding_network import ChannelsFirst, EmbeddingNetwork, Standardizer
from sktriplet.training import BalancedBatchSampler, TripletNet
from sktriplet.training._data import ArrayDataset

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "gpu.jsonl"
PAGE = HERE.parent / "docs" / "distributed.md"


class Sizes(NamedTuple):
    """How much is done."""

    table: int
    images: int
    side: int
    transform: int
    batches: tuple[int, ...]
    epochs: int
    turns: int
    threads: int


FULL = Sizes(20_000, 5_000, 32, 100_000, (256, 1024, 4096), 3, 5, os.cpu_count() or 1)
QUICK = Sizes(200, 60, 8, 1_000, (64,), 1, 1, 1)


def images(n_rows: int, side: int, n_classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return noise around the picture of each class."""
    rng, shape = np.random.default_rng(0), (3, side, side)
    y = rng.integers(n_classes, size=n_rows)
    pictures = rng.standard_normal((n_classes, *shape), dtype=np.float32)
    return pictures[y] + rng.standard_normal((n_rows, *shape), dtype=np.float32), y


def data(sizes: Sizes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {"table": table(sizes.table), "images": images(sizes.images, sizes.side)}


def network_for(X: np.ndarray) -> EmbeddingNetwork:
    if X.ndim == 2:
        return network(X)
    mean, scale = X.mean((0, 2, 3), keepdims=True)[0], X.std((0, 2, 3), keepdims=True)[0]
    shape = X.shape[1:]
    return EmbeddingNetwork(
        ConvNet(shape, 32), layout=ChannelsFirst(shape), standardizer=Standardizer(mean, scale)
    )


# What is compared. Each takes the same steps on the same batches.


def fit(X: np.ndarray, y: np.ndarray, epochs: int, device: str, **settings: Any) -> TripletEmbedder:
    settings = {**ONE_NETWORK, "batch_size": BATCH, "max_epochs": epochs, **settings}
    return TripletEmbedder(32, **settings, device=device, random_state=0).fit(X, y)


def bare_loop(X: np.ndarray, y: np.ndarray, epochs: int, device: str, *, resident: bool) -> None:
    """What one writes by hand; `resident` rows are all on the device from the start."""
    module, criterion = network_for(X).to(device).train(), TripletLoss(0.5, reduction="mean")
    fused = torch.device(device).type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, fused=fused)
    rows, labels = torch.from_numpy(X), torch.from_numpy(y)
    if resident:
        rows, labels = rows.to(device), labels.to(device)
    batches = BalancedBatchSampler(y, BATCH, 8, min_batches=10, random_state=0)
    for _ in range(epochs):
        for batch in batches:
            chosen = torch.from_numpy(batch).to(rows.device)
            optimizer.zero_grad()
            embeddings = module(rows[chosen].to(device))
            criterion(embeddings, labels[chosen].to(device)).backward()
            optimizer.step()


def bare_transform(module: nn.Module, X: np.ndarray, device: str) -> np.ndarray:
    with torch.inference_mode():
        parts = [module(rows.to(device)).cpu() for rows in torch.from_numpy(X).split(4096)]
    return torch.cat(parts).numpy()


def trained_net(
    X: np.ndarray, y: np.ndarray, epochs: int, device: str, **settings: Any
) -> Callable:
    """Return what trains a net for some more epochs; what is done once only is done."""
    settings = {"max_epochs": epochs, "batch_size": BATCH, "random_state": 0, **settings}
    net = TripletNet(network_for(X).to(device), device=device, verbose=0, **settings).initialize()
    dataset = ArrayDataset(X, y)
    net.partial_fit(dataset)
    return partial(net.partial_fit, dataset)


def loss_and_gradient(embeddings: torch.Tensor, labels: torch.Tensor, mining: str) -> None:
    TripletLoss(0.5, mining=mining)(embeddings, labels).backward()


def seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter() - start


def compared(name: str, ours: Callable, theirs: Callable, turns: int) -> dict[str, Any]:
    """Return the median of the paired ratios, and the median seconds of both."""
    ours(), theirs()
    pairs = []
    for turn in range(turns):
        both = {run: seconds(run) for run in ((ours, theirs) if turn % 2 else (theirs, ours))}
        pairs.append((both[ours], both[theirs]))
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name:60} {ratio:8.3f}   {1e3 * mine:10.2f} ms / {1e3 * other:10.2f} ms", flush=True)
    return {"what": name, "ratio": ratio, "s": mine, "s_other": other}


def compare(device: str, sizes: Sizes) -> list[dict[str, Any]]:
    """Return a row for each comparison."""
    rows, add = [], partial(compared, turns=sizes.turns)
    for what, (X, y) in data(sizes).items():
        work = X, y, sizes.epochs
        ours, bare = partial(fit, *work, device), partial(bare_loop, *work, device)
        half = partial(fit, *work, device, precision="bfloat16")
        rows += [
            add(f"{what}: fit / bare loop", ours, partial(bare, resident=False)),
            add(f"{what}: fit / bare loop, rows on the device", ours, partial(bare, resident=True)),
            add(f"{what}: fit / fit on the CPU", ours, partial(fit, *work, "cpu")),
            add(f"{what}: bfloat16 / float32", half, ours),
        ]
        # The tracer is a smoke test; the code generator takes minutes to warm up.
        backend = "inductor" if sizes is FULL else "eager"
        compiled = trained_net(*work, device, compile=True, compile__backend=backend)
        rows.append(add(f"{what}: compiled / not", compiled, trained_net(*work, device)))
    work = *table(sizes.table), sizes.epochs
    four = partial(fit, *work, device, n_members=4)
    rows.append(add("table: four members / one", four, partial(fit, *work, device)))
    embedder, many = fit(*work, device), table(sizes.transform)[0]
    bare = partial(bare_transform, embedder.net_.module_, many, device)
    rows.append(add("table: transform / bare forward", partial(embedder.transform, many), bare))
    return rows


def mine(device: str, sizes: Sizes) -> list[dict[str, Any]]:
    """Return what a loss and its gradient take by strategy and batch, against the CPU."""
    rows = []
    for mining in MINING_STRATEGIES:
        for batch in sizes.batches:
            embeddings = torch.randn(batch, 64, generator=torch.Generator().manual_seed(0))
            labels = torch.arange(batch) % (batch // 8)
            here, on_cpu = (
                partial(
                    loss_and_gradient, embeddings.to(at).requires_grad_(), labels.to(at), mining
                )
                for at in (device, "cpu")
            )
            row = compared(f"{mining}, {batch} rows", here, on_cpu, max(sizes.turns, 3))
            rows.append({**row, "mining": mining, "batch": batch})
    return rows


def agree(device: str, sizes: Sizes) -> list[dict[str, Any]]:
    """Return how far the device and the CPU are apart, in float32."""
    rows = []

    def add(name: str, difference: float, bound: float) -> None:
        rows.append({"what": name, "difference": difference, "bound": bound})
        print(f"{name:60} {difference:.2g}  (at most {bound})", flush=True)

    for what, (X, y) in data(sizes).items():
        X, X_new, y, y_new = train_test_split(X, y, test_size=0.2, random_state=0)
        module = network_for(X).eval()
        here, on_cpu = (bare_transform(module.to(at), X_new, at) for at in (device, "cpu"))
        add(f"{what}: largest difference of embeddings", float(np.abs(here - on_cpu).max()), 1e-4)
        here, on_cpu = (fit(X, y, sizes.epochs, at).score(X_new, y_new) for at in (device, "cpu"))
        add(f"{what}: difference of MAP@R on new rows", abs(here - on_cpu), 0.02)
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, size=(512, 3))
    distances = torch.tensor(np.square(points[:, None] - points).sum(axis=2), dtype=torch.float32)
    labels = torch.tensor(rng.integers(32, size=512))
    for name, miner in MINERS.items():
        here, on_cpu = (
            {tuple(row) for row in torch.stack(mined, dim=1).tolist()}
            for mined in (
                miner(
                    distances.to(at),
                    labels.to(at),
                    margin=4.0,
                    generator=torch.Generator().manual_seed(0),
                )
                for at in (device, "cpu")
            )
        )
        add(f"{name}: triplets that only one of them mines", len(here ^ on_cpu), 0)
    return rows


def about(device: str) -> dict[str, str]:
    """Return what the figures depend on."""
    if torch.device(device).type != "cuda":
        return {**environment(), "device": device}
    return {
        **environment(),
        "device": torch.cuda.get_device_name(device),
        "cuda": str(torch.version.cuda),
    }


def write_page() -> None:
    """Put the tables of the results file between the marks of the page."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    compared = ["| | ratio | s | the other, s |", "| --- | --: | --: | --: |"]
    mined = ["| mining | rows | ms | on the CPU, ms |", "| --- | --: | --: | --: |"]
    agreed = ["| | difference | bound |", "| --- | --: | --: |"]
    for row in rows:
        if "mining" in row:
            name, times = f"{row['mining']} | {row['batch']:,}", (row["s"], row["s_other"])
            mined.append(f"| {name} | {1e3 * times[0]:.2f} | {1e3 * times[1]:.2f} |")
        elif "ratio" in row:
            figures = f"{row['ratio']:.2f} | {row['s']:.3f} | {row['s_other']:.3f}"
            compared.append(f"| {row['what']} | {figures} |")
        else:
            agreed.append(f"| {row['what']} | {row['difference']:.2g} | {row['bound']:g} |")
    figures = {"what", "ratio", "s", "s_other", "mining", "batch", "difference", "bound"}
    known = {key: value for key, value in rows[0].items() if key not in figures}
    text = [", ".join(f"{key} {value}" for key, value in known.items())]
    text += ["\n".join(lines) for lines in (compared, mined, agreed)]
    mark = re.compile(r"(<!-- gpu -->\n).*?(\n<!-- end -->)", re.DOTALL)
    page, n_replaced = mark.subn(
        lambda at: "\n".join([at[1], "\n\n".join(text), at[2]]), PAGE.read_text()
    )
    if n_replaced != 1:
        raise SystemExit(f"{PAGE} has no place for the tables")
    PAGE.write_text(page)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="as torch names it; cuda by default")
    parser.add_argument("--quick", action="store_true", help="little data, nothing written")
    parser.add_argument("--table", action="store_true", help="write the results into the page")
    arguments = parser.parse_args()
    if arguments.table:
        return write_page()
        # Convolutions drop digits by default, on GPUs that are faster so; parity is of float32.
    torch.backends.cudnn.allow_tf32 = False
    device, sizes = arguments.device, QUICK if arguments.quick else FULL
    torch.set_num_threads(sizes.threads)
    rows = agree(device, sizes) + mine(device, sizes) + compare(device, sizes)
    if not arguments.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        known = about(device)
        RESULTS.write_text("".join(json.dumps({**known, **row}) + "\n" for row in rows))


if __name__ == "__main__":
    main()
