"""Memory and time of training on images that are read from their files, versus in memory.

    python benchmarks/lazy_images.py           # to benchmarks/results/lazy_images.jsonl
    python benchmarks/lazy_images.py --quick   # 2,000 files, printed only

Files are JPEG images of 64 x 64 pixels in 1,200 class folders, which are written to a temporary
folder first and deleted at the end. Memory is that of loading, training for one epoch, and
embedding all images. A step with a linear map as the network shows the cost of reading; that of the
default network, how much of it remains. The network runs on one thread; files are read by one
thread, which is the same, or ahead of time by two.
"""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
from PIL import Image
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.datasets import load_image_folder

RESULTS = harness.ResultFile("lazy_images")
SHAPE, N_CLASSES, TURNS = (64, 64, 3), 1200, 5
# Arguments of the loader.
METHODS: dict[str, dict[str, Any]] = {
    "in memory": {},
    "lazy, 1 thread": {"lazy": True},
    "lazy, 2 threads": {"lazy": True, "n_jobs": 2},
}


def write_files(folder: Path, n_files: int) -> None:
    """Write noisy images of the patterns of the classes."""
    rng = np.random.default_rng(0)
    for label in range(N_CLASSES):
        path = folder / f"{label:04}"
        path.mkdir(parents=True)
        pattern = np.kron(rng.integers(256, size=(8, 8, 3)), np.ones((8, 8, 1)))
        for number in range(label, n_files, N_CLASSES):
            noise = rng.normal(0, 20, SHAPE)
            image = np.clip(pattern + noise, 0, 255).astype(np.uint8)
            Image.fromarray(image).save(path / f"{number}.jpg")


def linear_map(input_shape: tuple[int, ...], n_components: int) -> nn.Module:
    channels, height, width = input_shape
    n_inputs = channels * (height // 8) * (width // 8)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(n_inputs, n_components))


def fit(X: Any, y: np.ndarray, module: Any) -> TripletEmbedder:
    return TripletEmbedder(8, module=module, max_epochs=1, device="cpu", random_state=0).fit(X, y)


def seconds_per_step(X: Any, y: np.ndarray, module: Any) -> float:
    """Return the time of a step, without that of computing the statistics of the channels."""
    (epoch,) = fit(X, y, module).net_.history
    return epoch["dur"] / epoch["train_batch_count"]


def compare(folder: Path, n_samples: dict[str, int]) -> list[harness.Result]:
    """Return one result per network and method."""
    loaded = {
        name: load_image_folder(folder, SHAPE, verbose=False, **settings)
        for name, settings in METHODS.items()
    }
    results = []
    for network, module in (("linear map", linear_map), ("default", "auto")):
        every = max(1, len(loaded["in memory"][1]) // n_samples[network])
        steps = {
            name: partial(seconds_per_step, X[::every], y[::every], module)
            for name, (X, y) in loaded.items()
        }
        turns = [{name: step() for name, step in steps.items()} for _ in range(TURNS)]
        results += [
            {
                "network": network,
                "method": name,
                "ms_a_step": 1e3 * statistics.median(turn[name] for turn in turns),
                "against_memory": statistics.median(
                    turn[name] / turn["in memory"] for turn in turns
                ),
            }
            for name in steps
        ]
    return results


def report_memory(folder: Path, method: str) -> None:
    """Print the memory of loading, fit, and transform in bytes, without imported packages."""
    load = partial(load_image_folder, verbose=False, **METHODS[method])

    def run(path: Path) -> None:
        X, y = load(path, SHAPE)
        fit(X, y, linear_map).transform(X)

    run(folder.parent / "small")
    print(harness.memory_growth(partial(run, folder)))


def measure_memory(folder: Path, n_files: int) -> list[harness.Result]:
    """Return the memory of the methods."""
    return [
        {
            "files": n_files,
            "method": method,
            "peak_mb": harness.memory_in_subprocess(__file__, folder, method) / 1e6,
        }
        for method in ("in memory", "lazy, 2 threads")
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few files, printed only")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    harness.use_single_thread()
    if arguments.memory_of:
        folder, method = arguments.memory_of
        return report_memory(Path(folder), method)
    sizes = (2_000,) if arguments.quick else (10_000, 100_000)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder, "small"), 1_500)
        for n_files in sizes:
            write_files(Path(folder, str(n_files)), n_files)
            results += measure_memory(Path(folder, str(n_files)), n_files)
        n_samples = {"linear map": 10_000, "default": 1_500}
        results += compare(Path(folder, str(sizes[0])), n_samples)
    for result in results:
        print(result)
    if not arguments.quick:
        about = harness.environment("pillow")
        RESULTS.replace({**about, **result} for result in results)


if __name__ == "__main__":
    main()
