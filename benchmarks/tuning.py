"""Gain from tuning one parameter of the default pipeline, per data set.

    python benchmarks/tuning.py           # what benchmarks/results/tuning.jsonl lacks
    python benchmarks/tuning.py --data wine sonar
    python benchmarks/tuning.py --table   # write the results to docs/benchmarks/tuning.md

Uses the training parts of the first splits of `tabular.py`, subsampled to 3,000 samples, and
three more noisy data sets. Of each, 40% are held out and split into two halves. The value that
is best on one half is evaluated on the other, and vice versa. The gain is therefore that of a
grid search over this parameter; on the half used for the selection it would never be negative.
"""

import argparse
import time
from typing import Any

import _harness as harness
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from tabular import DATA_SETS, PACKAGES, load

from sktriplet import TripletEmbedder

RESULTS = harness.ResultFile("tuning")
PAGE = harness.PAGES / "tuning.md"

NOISY = ("pima", "saheart", "australian")
N_SPLITS, MAX_SAMPLES = 2, 3000
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


def run(data_sets: list[str]) -> None:
    """Fit every missing setting once per split, and score k-NN classifiers on both halves."""
    defaults = TripletEmbedder().get_params()
    done = RESULTS.measured("data", "split", "setting")
    settings = {"defaults": {}} | {
        f"{name}={value}": {name: value}
        for name, values in GRID.items()
        for value in values
        if value != (list(defaults[name]) if isinstance(value, list) else defaults[name])
    }
    about = harness.environment(*PACKAGES)
    for data_set in data_sets:
        X, y = load(data_set)
        splits = StratifiedShuffleSplit(10, test_size=0.3, random_state=0).split(X, y)
        for number, (samples, _) in zip(range(N_SPLITS), splits, strict=False):
            if len(samples) > MAX_SAMPLES:
                samples, _ = train_test_split(
                    samples, train_size=MAX_SAMPLES, stratify=y[samples], random_state=number
                )
            training, held_out = train_test_split(
                samples, test_size=0.4, stratify=y[samples], random_state=number
            )
            halves = np.array_split(np.random.default_rng(number).permutation(held_out), 2)
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
                RESULTS.append(
                    {
                        "data": data_set,
                        "split": number,
                        "setting": setting,
                        "accuracies": accuracies,
                        "fit_cpu_s": round(seconds, 2),
                        **about,
                    }
                )
                print(data_set, number, setting, np.mean(accuracies[5]).round(4), flush=True)


def table() -> str:
    """Return one line per parameter: the effect of each value, and the gain from tuning."""
    frame = pd.DataFrame(
        {
            "data": result["data"],
            "split": result["split"],
            "half": half,
            "setting": result["setting"] if k == "5" else f"n_neighbors={k}",
            "accuracy": accuracy * 100,
        }
        for result in RESULTS.read()
        for k, halves in result["accuracies"].items()
        for half, accuracy in enumerate(halves)
        if k == "5" or result["setting"] == "defaults"
    )
    wide = frame.pivot(index=["data", "split", "half"], columns="setting", values="accuracy")
    wide = wide.dropna()
    noisy = wide.index.get_level_values("data").isin([*NOISY, "german"])
    rows = []
    for parameter in ("n_neighbors", *GRID):
        values = [name for name in wide if name.startswith(f"{parameter}=")]
        candidates = wide[["defaults", *values]].to_numpy()
        # The best value of the other half; halves are the innermost level of the index.
        best = candidates.argmax(axis=1).reshape(-1, 2)[:, ::-1].ravel()
        selected = candidates[np.arange(len(candidates)), best]
        gain = pd.Series(selected, index=wide.index) - wide["defaults"]
        differences = wide[values].sub(wide["defaults"], axis=0)
        effects = ", ".join(
            f"{name.split('=')[1].replace('[', '(').replace(']', ')')}: "
            f"{_mean(differences[name]):+.1f} ({_mean(differences[name][noisy]):+.1f})"
            for name in values
        )
        rows.append((_mean(gain), f"`{parameter}`", effects, f"{_mean(gain[noisy]):+.2f}"))
    rows.sort(key=lambda row: -row[0])
    header = (
        "parameter",
        "value: difference from the default, points, all data sets (the four noisy ones)",
        "gain from tuning",
        "gain on noisy data sets",
    )
    cells = [(name, effects, f"{gain:+.2f}", noisy) for gain, name, effects, noisy in rows]
    n_data_sets = wide.index.get_level_values("data").nunique()
    return f"{n_data_sets} data sets.\n\n{harness.markdown_table(header, cells, 'llrr')}"


def _mean(differences: pd.Series) -> float:
    """Return the mean over data sets of their means."""
    return float(differences.groupby("data").mean().mean())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = (*DATA_SETS, *NOISY)
    parser.add_argument("--data", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    if arguments.table:
        return harness.write_blocks(PAGE, {"choosing": table()})
    harness.use_single_thread()
    run(arguments.data)


if __name__ == "__main__":
    main()
