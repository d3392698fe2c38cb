"""Shared parts of the benchmarks: threads, environment, result files, pages, memory, timing."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"

Result = dict[str, Any]


def use_single_thread() -> None:
    """Restrict BLAS, OpenMP, torch, and numba to one thread, here and in subprocesses."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    threadpool_limits(1)
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    if "numba" in sys.modules:  # It has read the environment variable already.
        sys.modules["numba"].set_num_threads(1)
    else:
        os.environ["NUMBA_NUM_THREADS"] = "1"


# Environment.


def environment(*packages: str) -> dict[str, str]:
    """Return the date, the processor, and the versions of Python and installed packages."""
    model = platform.processor()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        model = re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text())[1]
    versions = {}
    for package in ("numpy", "scikit-learn", "torch", "skorch", "sktriplet", *packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{model} ({platform.machine()})",
        "python": platform.python_version(),
        **versions,
    }


def environment_line(results: Iterable[Result], labels: Sequence[str]) -> str:
    """Return the environments of results: their text values, except those named in `labels`."""
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for key, value in result.items():
            if isinstance(value, str) and key not in labels:
                values.setdefault(key, {})[value] = None
    return ", ".join(f"{key} {' and '.join(found)}" for key, found in values.items())


# Result files and pages.


class ResultFile:
    """A file in `results/` with one JSON object per line."""

    def __init__(self, name: str):
        self.path = RESULTS / f"{name}.jsonl"

    def read(self, **conditions: Any) -> list[Result]:
        """Return the results whose values equal the conditions, in the order of the file."""
        if not self.path.exists():
            return []
        results = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [r for r in results if all(r.get(k) == v for k, v in conditions.items())]

    def measured(self, *keys: str, **conditions: Any) -> set[tuple]:
        """Return the values of the keys in every result, to find missing measurements."""
        return {tuple(result.get(key) for key in keys) for result in self.read(**conditions)}

    def append(self, result: Result) -> None:
        """Append one result immediately: an interrupted run can be continued."""
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(result) + "\n")

    def replace(self, results: Iterable[Result]) -> None:
        """Overwrite the file."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text("".join(json.dumps(result) + "\n" for result in results))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], alignment: str) -> str:
    """Return a table; `alignment` has an "l" or an "r" for each column."""
    marks = {"l": "---", "r": "--:"}
    lines = [header, [marks[side] for side in alignment], *rows]
    if len(lines) == 2:
        return "Not measured yet."
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def fixed(value: float | None, digits: int) -> str:
    """Format a number; None and NaN are an empty cell."""
    return "" if value is None or value != value else f"{value:.{digits}f}"


def write_blocks(page: Path, blocks: Mapping[str, str]) -> None:
    """Replace the text between ``<!-- name -->`` and ``<!-- end -->`` on a page."""
    text = page.read_text()
    for name, block in blocks.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        text, n_replaced = mark.subn(lambda at, block=block: f"{at[1]}\n{block}\n{at[2]}", text)
        if n_replaced != 1:
            raise SystemExit(f"{page} must contain <!-- {name} --> once, has it {n_replaced} times")
    page.write_text(text)


# Memory and time.


def peak_bytes() -> int:
    """Return the peak memory of this process."""
    status = Path("/proc/self/status")
    # Unlike ru_maxrss, VmHWM is not inherited from the parent process.
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_growth(step: Callable[[], Any]) -> int:
    """Return by how many bytes a step raises the peak memory of this process."""
    before = peak_bytes()
    step()
    return peak_bytes() - before


def memory_in_subprocess(script: str, *arguments: Any) -> int:
    """Return the bytes that ``script --memory-of *arguments`` prints."""
    command = [sys.executable, script, "--memory-of", *map(str, arguments)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def time_in_turns(
    steps: Mapping[Hashable, Callable[[], Any]],
    turns: int,
    clock: Callable[[], float] = perf_counter,
) -> dict[Hashable, list[float]]:
    """Return the seconds of each step per turn.

    Steps are interleaved, so other load on the machine affects all of them; every second turn
    runs them in reverse order.
    """
    seconds: dict[Hashable, list[float]] = {name: [] for name in steps}
    for turn in range(turns):
        for name in [*steps][:: -1 if turn % 2 else 1]:
            start = clock()
            steps[name]()
            seconds[name].append(clock() - start)
    return seconds


def median_ratio(seconds: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios that are paired by turn."""
    return statistics.median(a / b for a, b in zip(seconds, others, strict=True))


def compare(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    turns: int,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, float]:
    """Return the median paired ratio and both medians in seconds, after one untimed run each."""
    ours(), theirs()
    seconds = time_in_turns({"ours": ours, "theirs": theirs}, turns, clock)
    return {
        "ratio": median_ratio(seconds["ours"], seconds["theirs"]),
        "s": statistics.median(seconds["ours"]),
        "s_other": statistics.median(seconds["theirs"]),
    }
