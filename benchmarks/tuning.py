"""What it gains to choose a parameter of the default pipeline, table by table.

    python benchmarks/tuning.py           # all that benchmarks/results/choosing.jsonl lacks
    python benchmarks/tuning.py --data wine sonar
    python benchmarks/tuning.py --table   # write the measured rows into docs/tuning.md

On the training parts of the first splits of `tabular.py`, large ones sampled down to 3,000 rows,
and on three noisy tables more. Of each, 40% are held out from the fit and dealt in two halves: the
value that is best on one half is measured on the other, and the other way round. What is gained
so is what a grid search over that one parameter gains; what is best on the half that it is
measured on would always gain.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from tabular import DATA_SETS, environment, load

from sktriplet import TripletEmbedder

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "tuning.jsonl"
PAGE = HERE.parent / "docs" / "tuning.md"

NOISY = ("pima", "saheart", "australian")
N_SPLITS, MOST_ROWS = 2, 3000
GRID: dict[str, list[Any]] = {
    "max_epochs": [4, 16, 48],
    "hidden_layer_sizes": [[], [64], [256, 128], [512, 256]],
    "margin": [0.1, 0.2, 0.5, 1.0],
    "lr": [5e-4, 2e-3, 5e-3],
    "samples_per_class": [4, 8, 32],
    "n_components": [16, 64, 128],
    "weight_decay": [1e-2, 1.0],
    "nca_weight": [0.0, 0.5, 2.0],
}
NEIGHBORS = [1, 5, 15, 31]


def measured() -> list[dict]:
    """Return the rows of the results file."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def run(data_sets: list[str]) -> None:
    """Fit every setting once a split, and score 5-NN on both halves."""
    defaults = TripletEmbedder().get_params()
    done = {(row["data"], row["split"], row["setting"]) for row in measured()}
    settings = {"defaults": {}} | {
        f"{name}={value}": {name: value}
        for name, values in GRID.items()
        for value in values
        if value != (list(defaults[name]) if isinstance(value, list) else defaults[name])
    }
    about = environment()
    for data_set in data_sets:
        X, y = load(data_set)
        splits = StratifiedShuffleSplit(10, test_size=0.3, random_state=0).split(X, y)
        for number, (rows, _) in zip(range(N_SPLITS), splits, strict=False):
            if len(rows) > MOST_ROWS:
                rows, _ = train_test_split(
                    rows, train_size=MOST_ROWS, stratify=y[rows], random_state=number
                )
            training, others = train_test_split(
                rows, test_size=0.4, stratify=y[rows], random_state=number
            )
            halves = np.array_split(np.random.default_rng(number).permutation(others), 2)
            for setting, parameters in settings.items():
                if (data_set, number, setting) in done:
                    continue
                started = time.process_time()
                embedder = TripletEmbedder(random_state=number, device="cpu", **parameters)
                embedded = embedder.fit_transform(X[training], y[training])
                seconds = time.process_time() - started
                accuracies = {
                    k: [
                        KNeighborsClassifier(k)
                        .fit(embedded, y[training])
                        .score(embedder.transform(X[half]), y[half])
                        for half in halves
                    ]
                    for k in NEIGHBORS
                }
                row = {
                    "data": data_set,
                    "split": number,
                    "setting": setting,
                    "accuracies": accuracies,
                    "fit_cpu_s": round(seconds, 2),
                }
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row | about) + "\n")
                print(data_set, number, setting, np.mean(accuracies[5]).round(4), flush=True)


def table() -> str:
    """Return a line for each value, and for each parameter what choosing it gains."""
    rows = measured()
    frame = pd.DataFrame(
        {
            "data": row["data"],
            "split": row["split"],
            "half": half,
            "setting": row["setting"] if k == "5" else f"n_neighbors={k}",
            "accuracy": accuracy * 100,
        }
        for row in rows
        for k, halves in row["accuracies"].items()
        for half, accuracy in enumerate(halves)
        if k == "5" or row["setting"] == "defaults"
    )
    wide = frame.pivot(index=["data", "split", "half"], columns="setting", values="accuracy")
    wide = wide.dropna()
    noisy = wide.index.get_level_values("data").isin([*NOISY, "german"])
    lines = [
        f"{wide.index.get_level_values('data').nunique()} tables.",
        "",
        "| parameter | values against the default, points: all tables (the four noisy ones) "
        "| gain by choosing | of it on the noisy ones |",
        "| --- | --- | --: | --: |",
    ]
    gains = {}
    for parameter in ("n_neighbors", *GRID):
        values = [name for name in wide if name.startswith(f"{parameter}=")]
        candidates = wide[["defaults", *values]]
        # The other half's best: halves are the innermost level of the index.
        best = candidates.to_numpy().argmax(axis=1).reshape(-1, 2)[:, ::-1].ravel()
        chosen = candidates.to_numpy()[np.arange(len(candidates)), best]
        gain = pd.Series(chosen - wide["defaults"].to_numpy(), index=wide.index)
        differences = candidates[values].sub(wide["defaults"], axis=0)
        told = [
            f"{name.split('=')[1].replace('[', '(').replace(']', ')')}: "
            f"{_mean(differences[name]):+.1f} ({_mean(differences[name][noisy]):+.1f})"
            for name in values
        ]
        gains[parameter] = _mean(gain)
        line = f"| `{parameter}` | {', '.join(told)} | {_mean(gain):+.2f} "
        lines.append(line + f"| {_mean(gain[noisy]):+.2f} |")
    order = sorted(gains, key=lambda name: -gains[name])
    head, body = lines[:4], lines[4:]
    return "\n".join(head + [body[[*gains].index(name)] for name in order])


def _mean(differences: pd.Series) -> float:
    """Return the mean over tables of their means."""
    return float(differences.groupby("data").mean().mean())


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = (*DATA_SETS, *NOISY)
    parser.add_argument("--data", nargs="+", choices=every, default=every)
    parser.add_argument("--table", action="store_true", help="write the results into the page")
    arguments = parser.parse_args()
    if arguments.table:
        mark = re.compile(r"(<!-- choosing -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page = mark.sub(lambda found: f"{found[1]}\n{table()}\n{found[2]}", PAGE.read_text())
        PAGE.write_text(page)
        return print(table())
    torch.set_num_threads(1)
    run(arguments.data)


if __name__ == "__main__":
    main()
