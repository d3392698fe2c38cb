"""Time and memory of the triplet losses, forward and backward, on one CPU thread.

    python benchmarks/losses.py            # everything, to benchmarks/results/losses.jsonl
    python benchmarks/losses.py --quick    # the batches of the table of ratios, printed only
    python benchmarks/losses.py --table    # write the results to docs/benchmarks/losses.md

Compared methods are interleaved, so other load on the machine affects all of them, and medians
are reported. Needs pytorch-metric-learning.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import _harness as harness
import torch
from torch import Tensor
from torch.nn import functional as F

from sktriplet.losses import MINING_STRATEGIES, TripletLoss

RESULTS = harness.ResultFile("losses")
PAGE = harness.PAGES / "losses.md"

DIMENSIONS = 32
MARGIN = 0.2
BATCHES = (128, 256, 512, 1024, 4096)
CLASSES = (2, 10, 100)
# Methods have this many turns, or fewer if three or more timings take this many seconds.
TURNS, MAX_SECONDS = 15, 3.0
# Each dense mask of a batch of 1024 takes 4 GB.
MAX_DENSE_BATCH = 512
# pytorch-metric-learning lists the triplets of a batch; 50 million take about 4 GB.
MAX_LISTED_TRIPLETS = 15_000_000

Step = Callable[[Tensor, Tensor], Tensor]


# Batches.


def batch(size: int, n_classes: int, embedding: str) -> tuple[Tensor, Tensor]:
    """Return unit embeddings and balanced labels, seeded.

    "random" embeddings resemble those of an untrained network and do not depend on the class.
    "mid-training" classes are overlapping clouds; some positive pairs have no semi-hard negative.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size)[torch.randperm(size, generator=generator)] % n_classes
    embeddings = torch.randn(size, DIMENSIONS, generator=generator)
    if embedding == "mid-training":
        centers = torch.randn(n_classes, DIMENSIONS, generator=generator)
        embeddings = centers[labels] + 0.9 * embeddings
    return F.normalize(embeddings, dim=1), labels


# Compared methods. All compute the same loss on the same distances, unless their name says "PML".


def gram_distance(embeddings: Tensor) -> Tensor:
    """Return squared distances, in two lines of PyTorch."""
    squared_norms = embeddings.square().sum(dim=1)
    distances = squared_norms[:, None] + squared_norms - 2 * (embeddings @ embeddings.T)
    return distances.clamp(min=0)


def floor(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the distances; their backward pass starts from a dense (B, B) gradient."""
    return gram_distance(embeddings)


def active_mean(losses: Tensor) -> Tensor:
    """Return the mean over the positive losses."""
    return losses.sum() / (losses > 0).sum().clamp(min=1)


def masked_semi_hard(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mine with a mask of negatives per positive pair, (n_pairs, B), under no_grad."""
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
    """Mine with masks (B, B, B), under no_grad."""
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
    """Take masked maxima and minima, (B, B)."""
    distances = gram_distance(embeddings)
    same = labels[:, None] == labels
    positive = same.clone().fill_diagonal_(False)
    nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
    farthest = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
    return active_mean(F.relu(farthest - nearest + MARGIN))


def cubic_all(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mask the losses of all (B, B, B) combinations."""
    distances = gram_distance(embeddings)
    same = labels[:, None] == labels
    losses = F.relu(distances[:, :, None] - distances[:, None, :] + MARGIN)
    triplet = same.clone().fill_diagonal_(False)[:, :, None] & ~same[:, None, :]
    return active_mean(losses * triplet)


def pml(mined: bool) -> Step:
    """Return the loss of pytorch-metric-learning over all triplets or all semi-hard triplets."""
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
    """Return the methods that fit into memory with such a batch."""
    steps: dict[str, Step] = {"floor": floor}
    for mining in MINING_STRATEGIES:
        steps[mining] = TripletLoss(MARGIN, mining=mining, reduction="active_mean")
    if size <= MAX_DENSE_BATCH:
        steps |= {
            "semi_hard, masks (pairs x B)": masked_semi_hard,
            "semi_hard, masks (B x B x B)": cubic_semi_hard,
            "hard, masks (B x B)": masked_hard,
            "all, masks (B x B x B)": cubic_all,
        }
    if size * (size / n_classes) * (size - size / n_classes) <= MAX_LISTED_TRIPLETS:
        steps["semi_hard, PML (another set)"] = pml(mined=True)
        steps["all, PML"] = pml(mined=False)
    return steps


# Measuring.


def time_steps(steps: dict[str, Step], embeddings: Tensor, labels: Tensor) -> dict[str, list]:
    """Return the seconds of forward and backward passes of each step.

    Fast steps are repeated in their turn, after an untimed run that refills the caches.
    """
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
            if len(seconds[name]) >= 3 and sum(seconds[name]) > MAX_SECONDS:
                continue
            first = timed(step)
            n_repeats = min(10, int(0.03 / first))
            seconds[name] += [timed(step) for _ in range(n_repeats)] or [first]
    return seconds


def measure(size: int, n_classes: int, embedding: str) -> list[harness.Result]:
    """Return one result per method."""
    embeddings, labels = batch(size, n_classes, embedding)
    criterion = TripletLoss(MARGIN)
    criterion(embeddings, labels)
    fraction = criterion.statistics["triplet_fraction"].item()
    case = {"batch": size, "classes": n_classes, "embeddings": embedding}
    seconds = time_steps(methods(size, n_classes), embeddings, labels)
    return [
        {
            **case,
            "triplet_fraction": fraction,
            "method": name,
            "ms": statistics.median(times) * 1e3,
            "timings": len(times),
        }
        for name, times in seconds.items()
    ]


def report_memory(method: str, size: int, n_classes: int) -> None:
    """Print the memory of a forward and backward pass in bytes."""
    embeddings, labels = batch(size, n_classes, "random")
    mining, _, loss = method.partition(", ")
    criterion = TripletLoss(MARGIN, mining=mining, loss=loss or "hinge", reduction="active_mean")
    print(harness.memory_growth(lambda: criterion(embeddings.requires_grad_(), labels).backward()))


def measure_memory(size: int, n_classes: int) -> list[harness.Result]:
    """Return one result per strategy, each measured in its own process."""
    return [
        {
            "batch": size,
            "classes": n_classes,
            "embeddings": "random",
            "method": method,
            "peak_mb": harness.memory_in_subprocess(__file__, method, size, n_classes) / 1e6,
        }
        for method in (*MINING_STRATEGIES, "all, soft_margin")
    ]


# Reporting.

# Method, batch size, number of classes, reference, how the ratio is printed, target.
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


def ratio_table(results: list[harness.Result]) -> str:
    """Return the comparisons of RATIOS as a table."""
    ms = {
        (result["method"], result["batch"], result["classes"], result["embeddings"]): result["ms"]
        for result in results
        if "ms" in result
    }
    rows = []
    for ours, size, n_classes, other, sense, target in RATIOS:
        cells = []
        for embedding in ("random", "mid-training"):
            ratio = ms[ours, size, n_classes, embedding] / ms[other, size, n_classes, embedding]
            cells.append(f"{1 / ratio:.0f} x faster" if sense == "faster" else f"{ratio:.1f} x")
        target_text = f">= {target} x faster" if sense == "faster" else f"<= {target} x"
        rows.append((f"{ours}, B={size}, {n_classes} classes", other, *cells, target_text))
    header = ("method", "relative to", "random", "mid-training", "target")
    return harness.markdown_table(header, rows, "lllll")


def time_table(results: list[harness.Result], embedding: str) -> str:
    """Return all medians in milliseconds as a table."""
    timed = [r for r in results if "ms" in r and r["embeddings"] == embedding]
    names = list(dict.fromkeys(result["method"] for result in timed))
    cells: dict[tuple[int, int], dict[str, str]] = {}
    for result in timed:
        case = cells.setdefault((result["batch"], result["classes"]), {})
        case[result["method"]] = f"{result['ms']:.3g}"
    rows = [(*case, *(found.get(name, "") for name in names)) for case, found in cells.items()]
    return harness.markdown_table(("B", "classes", *names), rows, "r" * (2 + len(names)))


def memory_table(results: list[harness.Result]) -> str:
    """Return the peaks in MB as a table."""
    measured = [result for result in results if "peak_mb" in result]
    header = ("strategy", *(result["method"] for result in measured))
    row = ("peak, MB", *(f"{result['peak_mb']:.0f}" for result in measured))
    return harness.markdown_table(header, [row], "l" + "r" * len(measured))


def write_page() -> None:
    """Write the tables."""
    results = RESULTS.read()
    blocks = {
        "environment": harness.environment_line(results, labels=("embeddings", "method")),
        "ratios": ratio_table(results),
        "times-random": time_table(results, "random"),
        "times-mid-training": time_table(results, "mid-training"),
        "memory": memory_table(results),
    }
    harness.write_blocks(PAGE, blocks)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the table of ratios, printed only")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    harness.use_single_thread()
    if arguments.memory_of:
        method, size, n_classes = arguments.memory_of
        return report_memory(method, int(size), int(n_classes))
    if arguments.table:
        return write_page()

    batches = [(size, n_classes) for size in BATCHES for n_classes in CLASSES]
    if arguments.quick:
        batches = sorted({(size, n_classes) for _, size, n_classes, *_ in RATIOS})
    results = []
    for size, n_classes in batches:
        for embedding in ("random", "mid-training"):
            print(f"B={size}, {n_classes} classes, {embedding}:")
            for result in measure(size, n_classes, embedding):
                results.append(result)
                print(f"  {result['ms']:10.3f} ms  {result['method']}", flush=True)
    print(ratio_table(results))
    if not arguments.quick:
        results += measure_memory(4096, 10)
        print(memory_table(results))
        about = harness.environment("pytorch-metric-learning")
        RESULTS.replace({**about, **result} for result in results)


if __name__ == "__main__":
    main()
