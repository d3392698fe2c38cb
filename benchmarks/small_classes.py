"""Many small classes: recall of product offers among 600 products with three to five offers each.

    python benchmarks/small_classes.py           # the published figures: ten minutes
    python benchmarks/small_classes.py --quick   # one seed, printed only
    python benchmarks/small_classes.py --table   # write the table of docs/benchmarks

The offers are synthetic: a noun, attributes, a brand, a code, and words that shops add, in any
order and with typos. Embedders are trained on the offers of 600 products. Queries are offers of
600 other products, and new offers of the training products. Features are TF-IDF weights of
character n-grams, and, except for the first method, their projections by TruncatedSVD. Everything
runs on one thread; times are CPU times of `fit`.
"""

import argparse
from collections.abc import Callable
from functools import partial
from time import process_time
from typing import Any

import _harness as harness
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktriplet import TripletEmbedder
from sktriplet.metrics import mean_average_precision_at_r_score, recall_at_k_score

RESULTS = harness.ResultFile("small_classes")
PAGE = harness.PAGES / "small_classes.md"
N_CLASSES = 600
N_SVD_COMPONENTS = 500
N_SEEDS = 5

SYLLABLES = [first + vowel for first in "bdfgklmnprstv" for vowel in "aeiou"]


# Data.


def make_words(n_words: int, n_syllables: int, rng: np.random.Generator) -> list[str]:
    return ["".join(rng.choice(SYLLABLES, n_syllables)) for _ in range(n_words)]


def with_typos(text: str, rng: np.random.Generator) -> str:
    """Drop, swap or replace a few characters."""
    letters = list(text)
    for _ in range(rng.poisson(1.5)):
        place = int(rng.integers(len(letters) - 1))
        kind = rng.integers(3)
        if kind == 0:
            letters.pop(place)
        elif kind == 1:
            letters[place : place + 2] = letters[place : place + 2][::-1]
        else:
            letters[place] = "abcdefghijklmnopqrstuvwxyz"[rng.integers(26)]
    return "".join(letters)


def make_offers(seed: int) -> tuple[NDArray[np.object_], NDArray[np.int64], NDArray[np.bool_]]:
    """Return offers of twice N_CLASSES products, their products, and which are additional.

    There are three to five offers per product, and two additional ones.
    """
    rng = np.random.default_rng(seed)
    brands, nouns = make_words(60, 3, rng), make_words(80, 3, rng)
    attributes, shop_words = make_words(60, 2, rng), make_words(150, 2, rng)
    frequencies = np.arange(1.0, len(shop_words) + 1) ** -0.7
    frequencies /= frequencies.sum()
    offers, products, is_additional = [], [], []
    for product in range(2 * N_CLASSES):
        name = [str(rng.choice(nouns)), *rng.choice(attributes, 3, replace=False)]
        brand, code = str(rng.choice(brands)), f"{rng.choice(SYLLABLES)}{rng.integers(100, 1000)}"
        n_offers = int(rng.integers(3, 6))
        for offer in range(n_offers + 2):
            words = [name[0], *(word for word in name[1:] if rng.random() < 0.7)]
            if rng.random() < 0.8:
                words.append(brand)
            if rng.random() < 0.6:
                words.append(code if rng.random() < 0.7 else f"{code[:2]}-{code[2:]}")
            words += list(rng.choice(shop_words, rng.integers(2, 8), p=frequencies))
            offers.append(with_typos(" ".join(rng.permutation(words)), rng))
            products.append(product)
            is_additional.append(offer >= n_offers)
    return np.array(offers, dtype=object), np.array(products), np.array(is_additional)


# Methods: seed -> transformer.


def tfidf(seed: int) -> Any:
    return TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True, dtype=np.float32
    )


def svd(seed: int, *steps: Any) -> Any:
    return make_pipeline(tfidf(seed), TruncatedSVD(N_SVD_COMPONENTS, random_state=seed), *steps)


def lda(seed: int) -> Any:
    return svd(seed, LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=64))


def ours(seed: int, **settings: Any) -> Any:
    return svd(seed, TripletEmbedder(random_state=seed, device="cpu", **settings))


METHODS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "tfidf": ("TF-IDF, not learned", lambda seed: make_pipeline(tfidf(seed), to_dense())),
    "svd": (f"TruncatedSVD({N_SVD_COMPONENTS}), not learned", svd),
    "lda": ("shrinkage LDA(64)", lda),
    "ours": ("**TripletEmbedder()**", ours),
    "ours-128": ("**TripletEmbedder(128)**", partial(ours, n_components=128)),
    "ours-256": ("**TripletEmbedder(256)**", partial(ours, n_components=256)),
    "ours-linear": (
        "TripletEmbedder(128, hidden_layer_sizes=())",
        partial(ours, n_components=128, hidden_layer_sizes=()),
    ),
}


def to_dense() -> FunctionTransformer:
    return FunctionTransformer(lambda X: X.toarray(), accept_sparse=True)


# Measuring and reporting.


def measure(method: str, seed: int) -> harness.Result:
    """Return the scores of a method among unseen classes, and of new offers of training classes."""
    offers, products, is_additional = make_offers(seed)
    is_unseen = products >= N_CLASSES
    train = ~is_unseen & ~is_additional
    model = METHODS[method][1](seed)
    started = process_time()
    model.fit(offers[train], products[train])
    seconds = process_time() - started

    def embed(part: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
        return model.transform(offers[part]), products[part]

    unseen = embed(is_unseen & ~is_additional)
    queries, (references, reference_y) = embed(~is_unseen & is_additional), embed(train)
    options: dict[str, Any] = {"metric": "cosine"}
    known = {"reference": references, "reference_y": reference_y, **options}
    return {
        "method": method,
        "seed": seed,
        "unseen_recall": recall_at_k_score(*unseen, **options),
        "unseen_map_at_r": mean_average_precision_at_r_score(*unseen, **options),
        "known_recall": recall_at_k_score(*queries, **known),
        "known_map_at_r": mean_average_precision_at_r_score(*queries, **known),
        "fit_cpu_s": seconds,
    }


def run(seeds: range, *, printed_only: bool) -> None:
    """Measure what is missing in the result file."""
    about = harness.environment()
    done = set() if printed_only else RESULTS.measured("method", "seed")
    for seed in seeds:
        for method in METHODS:
            if (method, seed) in done:
                continue
            result = measure(method, seed)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()})
            if not printed_only:
                RESULTS.append({**result, **about})


def write_page() -> None:
    """Write the mean over seeds of each score, and the environment, to the page."""
    results = RESULTS.read()
    names = ("unseen_recall", "unseen_map_at_r", "known_recall", "known_map_at_r")
    rows = []
    for method, (title, _) in METHODS.items():
        found = [result for result in results if result["method"] == method]
        if found:
            means = [np.mean([result[name] for result in found]) for name in names]
            seconds = np.mean([result["fit_cpu_s"] for result in found])
            rows.append([title, *(harness.fixed(mean, 3) for mean in means), f"{seconds:.1f}"])
    header = [
        *("method", "unseen: recall@1", "unseen: MAP@R", "known: recall@1", "known: MAP@R"),
        "fit, s",
    ]
    seeds = len({result["seed"] for result in results})
    blocks = {
        "small-classes": harness.markdown_table(header, rows, "lrrrrr"),
        "small-classes-environment": f"{seeds} seeds; "
        + harness.environment_line(results, ["method"]),
    }
    harness.write_blocks(PAGE, blocks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Many small classes.")
    parser.add_argument("--quick", action="store_true", help="one seed, printed only")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    if arguments.table:
        write_page()
    else:
        harness.use_single_thread()
        run(range(1 if arguments.quick else N_SEEDS), printed_only=arguments.quick)
