"""k-NN behind the default embedder against k-NN behind its simple peers, on bundled data.

Repeated stratified 5-fold cross-validation, everything on the same folds and with its
defaults, one thread; the embedder's seed is the number of the split, so that no single
seed decides. For each data set it prints the mean accuracies, how far the embedder
is from the best peer, and the mean of the paired differences to scaled k-NN.

    python benchmarks/bundled.py            # 3 repeats: the published figures
    python benchmarks/bundled.py --repeats 1
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np
import sklearn
import skorch
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sktriplet
from sktriplet import TripletEmbedder

DATA_SETS = {
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "iris": load_iris,
    "digits": load_digits,
}
FRONTS = {
    "raw": None,
    "scaled": StandardScaler(),
    "LDA": LinearDiscriminantAnalysis(),
    "ours": TripletEmbedder(device="cpu"),
}
RESULTS = Path(__file__).parent / "results" / "bundled.jsonl"


def held_out_accuracy(transformer, X, y, split, seed: int) -> float:
    train, test = split
    if isinstance(transformer, TripletEmbedder):
        transformer = clone(transformer).set_params(random_state=seed)
    model = make_pipeline(transformer, KNeighborsClassifier(5))
    return model.fit(X[train], y[train]).score(X[test], y[test])


def main(n_repeats: int) -> None:
    torch.set_num_threads(1)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=n_repeats, random_state=0)
    versions = {
        module.__name__: module.__version__ for module in (np, sklearn, skorch, torch, sktriplet)
    }
    print("".join(f"{head:>14}" for head in ("", *FRONTS, "ours - best", "ours - scaled", "fit s")))
    lines = []
    for name, load in DATA_SETS.items():
        X, y = load(return_X_y=True)
        accuracy = {}
        for front, transformer in FRONTS.items():
            start = perf_counter()
            accuracy[front] = np.array(
                [
                    held_out_accuracy(transformer, X, y, split, seed)
                    for seed, split in enumerate(folds.split(X, y))
                ]
            )
            seconds = (perf_counter() - start) / len(accuracy[front])
        means = {front: float(scores.mean()) for front, scores in accuracy.items()}
        to_best = means["ours"] - max(means["scaled"], means["LDA"])
        to_scaled = float(np.mean(accuracy["ours"] - accuracy["scaled"]))
        row = [*means.values(), to_best, to_scaled]
        print(
            f"{name:>14}" + "".join(f"{value:14.4f}" for value in row) + f"{seconds:14.2f}",
            flush=True,
        )
        lines.append(
            {
                "data_set": name,
                "n_repeats": n_repeats,
                "accuracy": means,
                "ours_minus_best_of_scaled_and_lda": to_best,
                "ours_minus_scaled_paired": to_scaled,
                "seconds_a_fit": round(seconds, 2),
                "versions": versions,
            }
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    main(parser.parse_args().repeats)
