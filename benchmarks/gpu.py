"""Speed-up of fit, transform and mining on a GPU, and agreement of the results with the CPU.

    python benchmarks/gpu.py                       # on CUDA, to benchmarks/results/gpu.jsonl
    python benchmarks/gpu.py --device cpu --quick  # small data, printed only
    python benchmarks/gpu.py --table               # write the results to docs/benchmarks/gpu.md

Compared methods are interleaved, and the ratios are medians of paired ratios. Unlike in the
other benchmarks, torch uses one thread per CPU core.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import _harness as harness
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from training import BATCH, ONE_NETWORK, bare_loop, bare_transform, network, table_data

from sktriplet import TripletEmbedder
from sktriplet.losses import MINING_STRATEGIES, TripletLoss
from sktriplet.mining import MINERS
from sktriplet.networks import ConvNet
from sktriplet.networks._embedding_network import ChannelsFirst, EmbeddingNetwork, Standardizer
from sktriplet.training import TripletNet
from sktriplet.training._data import ArrayDataset

RESULTS = harness.ResultFile("gpu")
PAGE = harness.PAGES / "gpu.md"


class Sizes(NamedTuple):
    """Sizes of the data and numbers of repetitions."""

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


def image_data(n_samples: int, side: int, n_classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy copies of one image per class."""
    rng, shape = np.random.default_rng(0), (3, side, side)
    y = rng.integers(n_classes, size=n_samples)
    prototypes = rng.standard_normal((n_classes, *shape), dtype=np.float32)
    return prototypes[y] + rng.standard_normal((n_samples, *shape), dtype=np.float32), y


def data(sizes: Sizes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {"table": table_data(sizes.table), "images": image_data(sizes.images, sizes.side)}


def network_for(X: np.ndarray) -> EmbeddingNetwork:
    if X.ndim == 2:
        return network(X)
    mean, scale = X.mean((0, 2, 3), keepdims=True)[0], X.std((0, 2, 3), keepdims=True)[0]
    shape = X.shape[1:]
    return EmbeddingNetwork(
        ConvNet(shape, 32), input_layout=ChannelsFirst(shape), scaler=Standardizer(mean, scale)
    )


# Compared methods. All take the same steps on the same batches.


def fit(X: np.ndarray, y: np.ndarray, epochs: int, device: str, **settings: Any) -> TripletEmbedder:
    """Fit a `TripletEmbedder` with the network and loss of the bare loop."""
    settings = {"nca_weight": 0, **(ONE_NETWORK if X.ndim == 2 else {}), **settings}
    settings |= {"batch_size": BATCH, "max_epochs": epochs, "device": device}
    return TripletEmbedder(32, **settings, random_state=0).fit(X, y)


def trained_net(
    X: np.ndarray, y: np.ndarray, epochs: int, device: str, **settings: Any
) -> Callable[[], Any]:
    """Return a function that trains a net for more epochs, after everything that is done once."""
    net = TripletNet(
        network_for(X).to(device),
        TripletLoss,
        criterion__margin=0.2,
        criterion__reduction="mean",
        max_epochs=epochs,
        batch_size=BATCH,
        random_state=0,
        device=device,
        verbose=0,
        **settings,
    ).initialize()
    dataset = ArrayDataset(X, y)
    net.partial_fit(dataset)
    return partial(net.partial_fit, dataset)


def loss_and_gradient(embeddings: torch.Tensor, labels: torch.Tensor, mining: str) -> None:
    TripletLoss(0.5, mining=mining, reduction="active_mean")(embeddings, labels).backward()


def clock() -> float:
    """Return the time when all work on the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def compared(name: str, ours: Callable, theirs: Callable, turns: int) -> harness.Result:
    """Return the median paired ratio and both medians in seconds."""
    result = {"what": name, **harness.compare(ours, theirs, turns, clock)}
    ms, other = 1e3 * result["s"], 1e3 * result["s_other"]
    print(f"{name:60} {result['ratio']:8.3f}   {ms:10.2f} ms / {other:10.2f} ms", flush=True)
    return result


def compare_all(device: str, sizes: Sizes) -> list[harness.Result]:
    """Return one result per comparison."""
    results, add = [], partial(compared, turns=sizes.turns)
    for what, (X, y) in data(sizes).items():
        work = X, y, sizes.epochs
        ours, plain = (
            partial(fit, *work, device),
            partial(bare_loop, *work, device, build=network_for),
        )
        half = partial(fit, *work, device, precision="bfloat16")
        on_cpu, resident = partial(fit, *work, "cpu"), partial(plain, resident=True)
        # "inductor" takes minutes to compile; "eager" only checks that the code can be traced.
        backend = "inductor" if sizes is FULL else "eager"
        compiled = trained_net(*work, device, compile=True, compile__backend=backend)
        results += [
            add(f"{what}: fit / bare loop", ours, partial(plain, resident=False)),
            add(f"{what}: fit / bare loop, samples on the device", ours, resident),
            add(f"{what}: fit / fit on the CPU", ours, on_cpu),
            add(f"{what}: bfloat16 / float32", half, ours),
            add(f"{what}: compiled / not compiled", compiled, trained_net(*work, device)),
        ]
    work = *table_data(sizes.table), sizes.epochs
    one, four = (partial(fit, *work, device, n_members=n) for n in (1, 4))
    results.append(add("table: four members / one", four, one))
    embedder, many = one(), table_data(sizes.transform)[0]
    plain = partial(bare_transform, embedder.net_.module_, many, device)
    results.append(add("table: transform / bare forward", partial(embedder.transform, many), plain))
    return results


def compare_mining(device: str, sizes: Sizes) -> list[harness.Result]:
    """Return the time of a loss and its gradient by strategy and batch, relative to the CPU."""
    results = []
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
            result = compared(f"{mining}, {batch} samples", here, on_cpu, max(sizes.turns, 3))
            results.append({**result, "mining": mining, "batch": batch})
    return results


def measure_agreement(device: str, sizes: Sizes) -> list[harness.Result]:
    """Return the differences between the device and the CPU, in float32."""
    results = []

    def add(name: str, difference: float, bound: float) -> None:
        results.append({"what": name, "difference": difference, "bound": bound})
        print(f"{name:60} {difference:.2g}  (at most {bound})", flush=True)

    for what, (X, y) in data(sizes).items():
        X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
        module = network_for(X).eval()
        here, on_cpu = (bare_transform(module.to(at), X_test, at) for at in (device, "cpu"))
        add(f"{what}: largest difference of embeddings", float(np.abs(here - on_cpu).max()), 1e-4)
        here, on_cpu = (fit(X, y, sizes.epochs, at).score(X_test, y_test) for at in (device, "cpu"))
        add(f"{what}: difference of test MAP@R", abs(here - on_cpu), 0.02)
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, size=(512, 3))
    distances = torch.tensor(np.square(points[:, None] - points).sum(axis=2), dtype=torch.float32)
    labels = torch.tensor(rng.integers(32, size=512))
    for name, miner in MINERS.items():
        here, on_cpu = (
            {tuple(triplet) for triplet in torch.stack(mined, dim=1).tolist()}
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
        add(f"{name}: triplets mined on only one of them", len(here ^ on_cpu), 0)
    return results


def describe(device: str) -> dict[str, str]:
    """Return the environment and the device."""
    if torch.device(device).type != "cuda":
        return {**harness.environment(), "device": device}
    name = torch.cuda.get_device_name(device)
    return {**harness.environment(), "device": name, "cuda": str(torch.version.cuda)}


def write_page() -> None:
    """Write the tables."""
    compared, mined, agreed = [], [], []
    results = RESULTS.read()
    for result in results:
        if "mining" in result:
            times = f"{1e3 * result['s']:.2f}", f"{1e3 * result['s_other']:.2f}"
            mined.append((result["mining"], f"{result['batch']:,}", *times))
        elif "ratio" in result:
            figures = f"{result['ratio']:.2f}", f"{result['s']:.3f}", f"{result['s_other']:.3f}"
            compared.append((result["what"], *figures))
        else:
            figures = f"{result['difference']:.2g}", f"{result['bound']:g}"
            agreed.append((result["what"], *figures))
    parts = (
        harness.environment_line(results, labels=("what", "mining")),
        harness.markdown_table(("comparison", "ratio", "first, s", "second, s"), compared, "lrrr"),
        harness.markdown_table(("mining", "batch size", "ms", "ms on the CPU"), mined, "lrrr"),
        harness.markdown_table(("agreement", "difference", "bound"), agreed, "lrr"),
    )
    harness.write_blocks(PAGE, {"gpu": "\n\n".join(parts)})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="name of a torch device; default: cuda")
    parser.add_argument("--quick", action="store_true", help="small data, printed only")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    if arguments.table:
        return write_page()
    # By default, convolutions on GPUs use TF32, which is less precise than float32.
    torch.backends.cudnn.allow_tf32 = False
    device, sizes = arguments.device, QUICK if arguments.quick else FULL
    torch.set_num_threads(sizes.threads)
    results = measure_agreement(device, sizes)
    results += compare_mining(device, sizes) + compare_all(device, sizes)
    if not arguments.quick:
        about = describe(device)
        RESULTS.replace({**about, **result} for result in results)


if __name__ == "__main__":
    main()
