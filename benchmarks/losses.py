"""Time and memory of the triplet losses, forward and backward, on one CPU thread.

    python benchmarks/losses.py            # everything, to benchmarks/results/losses.jsonl
    python benchmarks/losses.py --quick    # the batches of the table of ratios only, printed
    python benchmarks/losses.py --table    # write the measured rows into docs/losses.md

Methods that are compared are timed in turns, so that whatever else the machine does
falls on all of them, and medians are reported. Needs pytorch-metric-learning.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import datetime
import json
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sktriplet.losses import TripletLoss
from sktriplet.losses._triplet import MINING_STRATEGIES

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "losses.jsonl"
PAGE = HERE.parent / "docs" / "losses.md"

DIMENSIONS = 32
MARGIN = 0.2
BATCHES = (128, 256, 512, 1024, 4096)
CLASSES = (2, 10, 100)
# Every method gets so many turns, until it has taken this long in three timings or more.
TURNS, SECONDS = 15, 3.0
# The dense masks of a batch of 1024 take 4 GB each.
LARGEST_DENSE = 512
# pytorch-metric-learning lists the triplets of a batch: 50 million take some 4 GB.
LARGEST_LIST = 15_000_000

Step = Callable[[Tensor, Tensor], Tensor]


# Batches.


def batch(size: int, n_classes: int, kind: str) -> tuple[Tensor, Tensor]:
    """Return unit embeddings and balanced labels, seeded.

    "random" is an untrained network's: no classes to be seen. In "mid-training" classes
    are clouds that overlap, and some positive pairs have no semi-hard negative left.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size)[torch.randperm(size, generator=generator)] % n_classes
    embeddings = torch.randn(size, DIMENSIONS, generator=generator)
    if kind == "mid-training":
        centres = torch.randn(n_classes, DIMENSIONS, generator=generator)
        embeddings = centres[labels] + 0.9 * embeddings
    return F.normalize(embeddings, dim=1), labels


# What is compared. Each is the same loss on the same distances, unless its name says so.


def gram_distance(embeddings: Tensor) -> Tensor:
    """Squared distances as one writes them in a line or two of PyTorch."""
    squared_norms = embeddings.square().sum(dim=1)
    distances = squared_norms[:, None] + squared_norms - 2 * (embeddings @ embeddings.T)
    return distances.clamp(min=0)


def floor(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the distances, whose backward pass is started from a dense (B, B) gradient."""
    return gram_distance(embeddings)


def active_mean(losses: Tensor) -> Tensor:
    """Return the mean over the losses that are positive."""
    return losses.sum() / (losses > 0).sum().clamp(min=1)


def masked_semi_hard(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mask one row of negatives for each positive pair, (pairs, B), under no_grad."""
    distances = gram_distance(embeddings)
    with torch.no_grad():
        same = labels[:, None] == labels
        negatives = distances.masked_fill(same, torch.inf)
        anchor, positive = same.fill_diagonal_(False).nonzero(as_tuple=True)
        d_ap, beyond = distances[anchor, positive], negatives[anchor]
        beyond.masked_fill_(beyond <= d_ap[:, None], torch.inf)
        nearest, negative = beyond.min(dim=1)
        found = nearest < d_ap + MARGIN
        anchor, positive, negative = anchor[found], positive[found], negative[found]
    return active_mean(F.relu(distances[anchor, positive] - distances[anchor, negative] + MARGIN))


def cubic_semi_hard(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mine by passes over (B, B, B), under no_grad."""
    distances = gram_distance(embeddings)
    with torch.no_grad():
        same = labels[:, None] == labels
        negatives = distances.masked_fill(same, torch.inf)[:, None, :]
        beyond = torch.where(negatives > distances[:, :, None], negatives, torch.inf)
        nearest, negative = beyond.min(dim=2)
        found = same.fill_diagonal_(False) & (nearest < distances + MARGIN)
        anchor, positive = found.nonzero(as_tuple=True)
        negative = negative[anchor, positive]
    return active_mean(F.relu(distances[anchor, positive] - distances[anchor, negative] + MARGIN))


def masked_hard(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Take masked maxima and minima; nothing here is (B, B, B)."""
    distances = gram_distance(embeddings)
    same = labels[:, None] == labels
    alike = same.clone().fill_diagonal_(False)
    nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
    farthest = distances.masked_fill(~alike, -torch.inf).amax(dim=1)
    return active_mean(F.relu(farthest - nearest + MARGIN))


def cubic_all(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mask the losses of all (B, B, B) combinations."""
    distances = gram_distance(embeddings)
    same = labels[:, None] == labels
    losses = F.relu(distances[:, :, None] - distances[:, None, :] + MARGIN)
    triplet = same.clone().fill_diagonal_(False)[:, :, None] & ~same[:, None, :]
    return active_mean(losses * triplet)


def listed_by_pml(mined: bool) -> Step:
    """Return pytorch-metric-learning's loss, over all triplets or over all semi-hard ones."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner

    distance = LpDistance(p=2, power=2, normalize_embeddings=False)
    loss = TripletMarginLoss(margin=MARGIN, distance=distance)
    if not mined:
        return loss
    miner = TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=distance)
    return lambda embeddings, labels: loss(embeddings, labels, miner(embeddings, labels))


def methods(size: int, n_classes: int) -> dict[str, Step]:
    """Return what fits into memory with such a batch."""
    steps: dict[str, Step] = {"floor": floor}
    for mining in MINING_STRATEGIES:
        steps[mining] = TripletLoss(MARGIN, mining=mining)
    if size <= LARGEST_DENSE:
        steps |= {
            "semi_hard, masks (pairs x B)": masked_semi_hard,
            "semi_hard, masks (B x B x B)": cubic_semi_hard,
            "hard, masks (B x B)": masked_hard,
            "all, masks (B x B x B)": cubic_all,
        }
    if size * (size / n_classes) * (size - size / n_classes) <= LARGEST_LIST:
        steps["semi_hard, PML (another set)"] = listed_by_pml(mined=True)
        steps["all, PML"] = listed_by_pml(mined=False)
    return steps


# Measuring.


def time_in_turns(steps: dict[str, Step], embeddings: Tensor, labels: Tensor) -> dict[str, list]:
    """Return the seconds that each step took, forward and backward, turn by turn."""
    weights = torch.rand(len(labels), len(labels), generator=torch.Generator().manual_seed(1))

    def timed(step: Step) -> float:
        leaf = embeddings.clone().requires_grad_()
        start = time.perf_counter()
        result = step(leaf, labels)
        result.backward(weights if result.ndim else None)
        return time.perf_counter() - start

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name, step in steps.items():
            if len(seconds[name]) >= 3 and sum(seconds[name]) > SECONDS:
                continue
            # What it costs to push the method before out of cache and memory is not this
            # one's, and is not counted where it could matter.
            first = timed(step)
            repeats = min(10, int(0.03 / first))
            seconds[name] += [timed(step) for _ in range(repeats)] or [first]
    return seconds


def measure(size: int, n_classes: int, kind: str) -> list[dict]:
    """Return a row of results for each method."""
    embeddings, labels = batch(size, n_classes, kind)
    criterion = TripletLoss(MARGIN)
    criterion(embeddings, labels)
    found = criterion.statistics["triplet_fraction"].item()
    about = {"batch": size, "classes": n_classes, "embeddings": kind, "triplet_fraction": found}
    timed = time_in_turns(methods(size, n_classes), embeddings, labels)
    return [
        {**about, "method": name, "ms": statistics.median(seconds) * 1e3, "timings": len(seconds)}
        for name, seconds in timed.items()
    ]


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, not inherited from the process that started it
        kilobytes = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if kilobytes:
            return int(kilobytes[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def report_memory(method: str, size: int, n_classes: int) -> None:
    """Print how many bytes a step takes beyond those of the process before it."""
    embeddings, labels = batch(size, n_classes, "random")
    mining, _, loss = method.partition(", ")
    criterion = TripletLoss(MARGIN, mining=mining, loss=loss or "hinge")
    before = peak_bytes()
    criterion(embeddings.requires_grad_(), labels).backward()
    print(peak_bytes() - before)


def measure_memory(size: int, n_classes: int) -> list[dict]:
    """Return a row of results for each strategy, each from a process of its own."""
    rows = []
    for method in (*MINING_STRATEGIES, "all, soft_margin"):
        command = [sys.executable, __file__, "--memory-of", method, str(size), str(n_classes)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        about = {"batch": size, "classes": n_classes, "embeddings": "random"}
        rows.append({**about, "method": method, "peak_mb": int(printed) / 1e6})
    return rows


def environment() -> dict[str, str]:
    """Return what the figures depend on."""
    import pytorch_metric_learning

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())[1]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{model} ({platform.machine()})",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pytorch-metric-learning": pytorch_metric_learning.__version__,
    }


# Reporting.

# what is compared, in which batch, against what, how the ratio is read, the target
RATIOS = [
    ("semi_hard", 512, 10, "semi_hard, masks (pairs x B)", "faster", 25),
    ("semi_hard", 512, 10, "semi_hard, masks (B x B x B)", "faster", 25),
    ("semi_hard", 512, 10, "floor", "slower", 4),
    ("semi_hard", 512, 10, "semi_hard, PML (another set)", "faster", 100),
    ("semi_hard", 256, 2, "semi_hard, masks (pairs x B)", "faster", 25),
    ("semi_hard", 256, 2, "semi_hard, masks (B x B x B)", "faster", 25),
    ("semi_hard", 256, 2, "semi_hard, PML (another set)", "faster", 80),
    ("hard", 512, 10, "floor", "slower", 2),
    ("all", 512, 10, "all, PML", "faster", 50),
    ("all", 512, 10, "floor", "slower", 8),
]


def ratio_table(rows: list[dict]) -> str:
    """Return the comparisons of RATIOS as a table."""
    ms = {
        (row["method"], row["batch"], row["classes"], row["embeddings"]): row["ms"]
        for row in rows
        if "ms" in row
    }
    lines = [
        "| | against | random | mid-training | aim |",
        "| --- | --- | --- | --- | --- |",
    ]
    for ours, size, n_classes, other, sense, aim in RATIOS:
        cells = []
        for kind in ("random", "mid-training"):
            ratio = ms[ours, size, n_classes, kind] / ms[other, size, n_classes, kind]
            cells.append(f"{1 / ratio:.0f} x faster" if sense == "faster" else f"{ratio:.1f} x")
        aim_text = f">= {aim} x faster" if sense == "faster" else f"<= {aim} x"
        case = f"{ours}, B={size}, {n_classes} classes"
        lines.append(f"| {case} | {other} | {' | '.join(cells)} | {aim_text} |")
    return "\n".join(lines)


def time_table(rows: list[dict], kind: str) -> str:
    """Return all medians in milliseconds as a table."""
    timed = [row for row in rows if "ms" in row and row["embeddings"] == kind]
    names = list(dict.fromkeys(row["method"] for row in timed))
    cells = {(row["batch"], row["classes"], row["method"]): row["ms"] for row in timed}
    lines = [
        "| B | classes | " + " | ".join(names) + " |",
        "| --: | --: |" + " --: |" * len(names),
    ]
    for size, n_classes in dict.fromkeys((row["batch"], row["classes"]) for row in timed):
        values = [cells.get((size, n_classes, name)) for name in names]
        shown = " | ".join("" if ms is None else f"{ms:.3g}" for ms in values)
        lines.append(f"| {size} | {n_classes} | {shown} |")
    return "\n".join(lines)


def memory_table(rows: list[dict]) -> str:
    """Return the peaks in MB as a table."""
    held = [row for row in rows if "peak_mb" in row]
    return "\n".join(
        [
            "| strategy | " + " | ".join(row["method"] for row in held) + " |",
            "| --- |" + " --: |" * len(held),
            "| peak, MB | " + " | ".join(f"{row['peak_mb']:.0f}" for row in held) + " |",
        ]
    )


def write_page() -> None:
    """Put the tables of the results file between the marks of the page."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    measured_on = ", ".join(f"{key} {rows[0][key]}" for key in environment() if key in rows[0])
    tables = {
        "environment": measured_on,
        "ratios": ratio_table(rows),
        "times-random": time_table(rows, "random"),
        "times-mid-training": time_table(rows, "mid-training"),
        "memory": memory_table(rows),
    }
    page = PAGE.read_text()
    for name, table in tables.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page, n_replaced = mark.subn(
            lambda found, text=table: f"{found[1]}\n{text}\n{found[2]}", page
        )
        if n_replaced != 1:
            raise SystemExit(f"{PAGE} has no place for {name!r}")
    PAGE.write_text(page)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the table of ratios only")
    parser.add_argument("--table", action="store_true", help="write the results into the page")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        method, size, n_classes = arguments.memory_of
        return report_memory(method, int(size), int(n_classes))
    if arguments.table:
        return write_page()

    batches = [(size, n_classes) for size in BATCHES for n_classes in CLASSES]
    if arguments.quick:
        batches = sorted({(size, n_classes) for _, size, n_classes, *_ in RATIOS})
    rows = []
    for size, n_classes in batches:
        for kind in ("random", "mid-training"):
            rows += measure(size, n_classes, kind)
            print(f"B={size}, {n_classes} classes, {kind}:")
            for row in rows:
                if (row["batch"], row["classes"], row["embeddings"]) == (size, n_classes, kind):
                    print(f"  {row['ms']:10.3f} ms  {row['method']}")
    print(ratio_table(rows))
    if not arguments.quick:
        rows += measure_memory(4096, 10)
        print(memory_table(rows))
        about = environment()
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("".join(json.dumps({**about, **row}) + "\n" for row in rows))


if __name__ == "__main__":
    main()
