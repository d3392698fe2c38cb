"""
More like this
==============

Who looks at one article is shown others like it. Which are alike, a catalogue says itself: by its
shelves. Here the articles are the functions and classes of SciPy and scikit-learn, described by
their docstrings (without examples), and the shelves are their modules. An embedder that learns
from some of them recommends for others, which it has not seen.
"""

# %%
# The catalogue
# -------------
# Modules with 20 entries or more. How many there are depends on the versions installed.

import importlib
import inspect
import pkgutil
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import scipy
import sklearn
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay
from sktriplet.metrics import r_precision_score, recall_at_k_score

start = perf_counter()
catalogue = {}
for package in (scipy, sklearn):
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if found.name.split(".")[1] in ("conftest", "tests") or "._" in found.name:
            continue
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", []):
            thing = vars(module).get(name)
            if inspect.isroutine(thing) or inspect.isclass(thing):
                text = (inspect.getdoc(thing) or "").split("\nExamples\n")[0]
                if len(text) > 300:
                    catalogue.setdefault(text, (name, found.name))
texts = np.array(list(catalogue), dtype=object)
names, shelves = np.array(list(catalogue.values())).T
shelf, shelf_of, sizes = np.unique(shelves, return_inverse=True, return_counts=True)
kept = sizes[shelf_of] >= 20
texts, names, shelves = texts[kept], names[kept], shelves[kept]
known, new = train_test_split(
    np.arange(len(names)), test_size=0.4, stratify=shelves, random_state=0
)
print(f"{len(names)} entries on {len(np.unique(shelves))} shelves, {len(new)} of them new")

# %%
# Before and after
# ----------------
# Each new entry searches the known ones. Words alone find a first one as good; learning pays from
# there on, in which part of as many as the shelf holds are from it (R-precision).

words = make_pipeline(
    TfidfVectorizer(stop_words="english", sublinear_tf=True, min_df=2),
    TruncatedSVD(100, random_state=0),
    Normalizer(),
)
learned = make_pipeline(words, TripletEmbedder(random_state=0))
embeddings = {}
print(f"\n{'':14}{'first one right':>18}{'R-precision':>14}")
for title, model in [("words alone", words), ("learned", learned)]:
    model.fit(texts[known], shelves[known])
    reference, queries = model.transform(texts[known]), model.transform(texts[new])
    embeddings[title] = reference, queries
    search = {"reference": reference, "reference_y": shelves[known]}
    first = recall_at_k_score(queries, shelves[new], **search)
    precision = r_precision_score(queries, shelves[new], **search)
    print(f"{title:14}{first:18.3f}{precision:14.3f}")

# %%
# What would it recommend?
# ------------------------

nearest = {}
for title, (reference, queries) in embeddings.items():
    index = NearestNeighbors(n_neighbors=5).fit(reference)
    nearest[title] = index.kneighbors(queries, return_distance=False)
asked = np.random.default_rng(0).choice(len(new), size=6, replace=False)
for query in asked:
    print(f"\nmore like {shelves[new][query]}.{names[new][query]}")
    for title, found in nearest.items():
        entries = known[found[query]]
        shown = (f"{names[i]}{'' if shelves[i] == shelves[new][query] else '*'}" for i in entries)
        print(f"  {title:12} {', '.join(shown)}")
print("\n* from another shelf, which need not be wrong")

# %%
# A picture
# ---------
# The new entries, coloured by a shelf that the model was not told.

figure, axes = plt.subplots(1, 2, figsize=(16, 6.5), layout="constrained")
for ax, (title, (_, queries)) in zip(axes, embeddings.items(), strict=True):
    EmbeddingDisplay.from_predictions(queries, shelves[new], ax=ax)
    ax.set_title(f"{title}: new entries")
axes[0].get_legend().remove()
figure.savefig("recommendation.png", dpi=80)
print(f"\nA picture is in recommendation.png ({perf_counter() - start:.0f} s in all)")
