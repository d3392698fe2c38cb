"""5-NN accuracy on the embeddings and on simple alternatives, on scikit-learn's data sets.

    python benchmarks/bundled.py             # 3 repeats: the published figures
    python benchmarks/bundled.py --repeats 1

Repeated stratified 5-fold cross-validation on one thread; all methods use the same folds and
their default parameters. The embedder is seeded with the number of the fold, so no single seed
decides. Prints, per data set, the mean accuracies, the difference between the embedder and the
better of scaled 5-NN and LDA, and the mean paired difference from scaled 5-NN.
"""

import argparse
from time import perf_counter

import _harness as harness
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import TripletEmbedder

RESULTS = harness.ResultFile("bundled")
DATA_SETS = {
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "iris": load_iris,
    "digits": load_digits,
}
TRANSFORMERS = {
    "raw": None,
    "scaled": StandardScaler(),
    "LDA": LinearDiscriminantAnalysis(),
    "ours": TripletEmbedder(device="cpu"),
}


def held_out_accuracy(transformer, X, y, split, seed: int) -> float:
    train, test = split
    if isinstance(transformer, TripletEmbedder):
        transformer = clone(transformer).set_params(random_state=seed)
    model = make_pipeline(transformer, KNeighborsClassifier(5))
    return model.fit(X[train], y[train]).score(X[test], y[test])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeats", type=int, default=3, help="number of repeats of the cross-validation"
    )
    n_repeats = parser.parse_args().repeats
    harness.use_single_thread()
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=n_repeats, random_state=0)
    header = ("", *TRANSFORMERS, "ours - best", "ours - scaled", "fit s")
    print("".join(f"{name:>14}" for name in header))
    results = []
    for data_set, load in DATA_SETS.items():
        X, y = load(return_X_y=True)
        accuracy = {}
        for name, transformer in TRANSFORMERS.items():
            start = perf_counter()
            accuracy[name] = np.array(
                [
                    held_out_accuracy(transformer, X, y, split, seed)
                    for seed, split in enumerate(folds.split(X, y))
                ]
            )
            seconds = (perf_counter() - start) / len(accuracy[name])
        means = {name: float(scores.mean()) for name, scores in accuracy.items()}
        to_best = means["ours"] - max(means["scaled"], means["LDA"])
        to_scaled = float(np.mean(accuracy["ours"] - accuracy["scaled"]))
        figures = "".join(f"{value:14.4f}" for value in (*means.values(), to_best, to_scaled))
        print(f"{data_set:>14}{figures}{seconds:14.2f}", flush=True)
        results.append(
            {
                "data_set": data_set,
                "n_repeats": n_repeats,
                "accuracy": means,
                "ours_minus_best_of_scaled_and_lda": to_best,
                "ours_minus_scaled_paired": to_scaled,
                "seconds_a_fit": round(seconds, 2),
                **harness.environment(),
            }
        )
    RESULTS.replace(results)


if __name__ == "__main__":
    main()
