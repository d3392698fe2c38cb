"""Time of a training step on images: relative to a bare loop, and of bfloat16 to float32.

    python benchmarks/images_speed.py           # to benchmarks/results/images.jsonl
    python benchmarks/images_speed.py --table   # write the results to docs/benchmarks/images.md

Runs are interleaved on one thread, and ratios are medians of paired ratios. Times are CPU times,
since the machine may be shared.
"""

import argparse
import statistics
from functools import partial
from time import process_time

import _harness as harness
import numpy as np
import torch
from _images_methods import BATCH, PER_CLASS, load_fashion_mnist, network_of, ours, train

from sktriplet.losses import TripletNCALoss
from sktriplet.training import BalancedBatchSampler

RESULTS = harness.ResultFile("images")
PAGE = harness.PAGES / "images.md"
N_STEPS, TURNS = 20, 11


def measure() -> list[harness.Result]:
    """Return one result per ratio."""
    images = load_fashion_mnist().first(N_STEPS * BATCH, 0)
    labels = images.train_labels.astype(np.int64)

    def fit(precision: str) -> None:
        ours(images, 0, 1, lr=2e-3, augment=None, precision=precision)

    def bare_loop(precision: str) -> None:
        torch.manual_seed(0)
        network = network_of(images, None, normalize=True, precision=precision)
        criterion = TripletNCALoss(margin=0.5, nca_weight=2.0, reduction="mean")
        sampler = BalancedBatchSampler(labels, BATCH, PER_CLASS, random_state=0)
        train(
            network,
            images,
            lambda: iter(sampler),
            lambda X, y: criterion(network(X), y),
            epochs=1,
            lr=2e-3,
        )

    steps = {
        (name, precision): partial(step, precision)
        for name, step in (("fit", fit), ("bare loop", bare_loop))
        for precision in ("bfloat16", "float32")
    }
    seconds = harness.time_in_turns(steps, TURNS, clock=process_time)
    ms = {key: statistics.median(times) / N_STEPS * 1e3 for key, times in seconds.items()}
    comparisons = [
        ("fit / bare loop, bfloat16", ("fit", "bfloat16"), ("bare loop", "bfloat16")),
        ("fit / bare loop, float32", ("fit", "float32"), ("bare loop", "float32")),
        ("float32 / bfloat16, fit", ("fit", "float32"), ("fit", "bfloat16")),
    ]
    return [
        {
            "run": f"speed: {name}",
            "task": "speed",
            "ratio": harness.median_ratio(seconds[one], seconds[other]),
            "ratio_of_fastest": min(seconds[one]) / min(seconds[other]),
            "ms": ms[one],
            "ms_other": ms[other],
        }
        for name, one, other in comparisons
    ]


def table() -> str:
    """Return the ratios and times of a step."""
    rows = []
    for result in RESULTS.read(task="speed"):
        ratios = (f"{result[key]:.2f}" for key in ("ratio", "ratio_of_fastest"))
        times = (f"{result[key]:.0f}" for key in ("ms", "ms_other"))
        rows.append((result["run"].removeprefix("speed: "), *ratios, *times))
    header = ("comparison", "ratio", "ratio of fastest turns", "first, ms", "second, ms")
    return harness.markdown_table(header, rows, "lrrrr")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    harness.use_single_thread()
    if arguments.table:
        return harness.write_blocks(PAGE, {"speed": table()})
    results = [{**harness.environment(), **result} for result in measure()]
    others = [result for result in RESULTS.read() if result["task"] != "speed"]
    RESULTS.replace([*others, *results])
    print(table())


if __name__ == "__main__":
    main()
