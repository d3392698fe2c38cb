"""
Recommending similar documents
==============================

This example recommends documents that are similar to a given one. The documents are docstrings of
the functions and classes of SciPy and scikit-learn, without their examples, and the labels are
their modules. A ``TripletEmbedder`` trained on labeled documents refines TF-IDF features and is
evaluated on new documents.
"""

# %%
# Collect the documents
# ---------------------
# We use modules with at least 20 documents. The number of documents depends on the installed
# versions.

import importlib
import inspect
import pkgutil

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

documents = {}
for package in (scipy, sklearn):
    for module_info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module_name = module_info.name
        if module_name.split(".")[1] in ("conftest", "tests") or "._" in module_name:
            continue
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", []):
            member = vars(module).get(name)
            if inspect.isroutine(member) or inspect.isclass(member):
                text = (inspect.getdoc(member) or "").split("\nExamples\n")[0]
                if len(text) > 300:
                    documents.setdefault(text, (name, module_name))
X = np.array(list(documents), dtype=object)
names, y = np.array(list(documents.values())).T
_, y_index, counts = np.unique(y, return_inverse=True, return_counts=True)
is_frequent = counts[y_index] >= 20
X, names, y = X[is_frequent], names[is_frequent], y[is_frequent]
X_train, X_test, names_train, names_test, y_train, y_test = train_test_split(
    X, names, y, test_size=0.4, stratify=y, random_state=0
)
print(f"{len(X_train)} training documents, {len(X_test)} new ones, {len(np.unique(y))} modules")

# %%
# Evaluate the retrieval
# ----------------------
# Each new document searches the training documents. Learning hardly changes how often the nearest
# document is from the same module (recall at 1), but increases the R-precision: the fraction of the
# R nearest documents that are from the same module, where R is the number of training documents in
# this module.

tfidf = make_pipeline(
    TfidfVectorizer(stop_words="english", sublinear_tf=True, min_df=2),
    TruncatedSVD(100, random_state=0),
    Normalizer(),
)
models = {
    "TF-IDF": tfidf,
    "TripletEmbedder": make_pipeline(tfidf, TripletEmbedder(random_state=0)),
}
embeddings = {}
print(f"{'':18}{'recall at 1':>14}{'R-precision':>14}")
for name, model in models.items():
    reference = model.fit(X_train, y_train).transform(X_train)
    queries = model.transform(X_test)
    recall = recall_at_k_score(queries, y_test, reference=reference, reference_y=y_train)
    r_precision = r_precision_score(queries, y_test, reference=reference, reference_y=y_train)
    print(f"{name:18}{recall:14.3f}{r_precision:14.3f}")
    embeddings[name] = reference, queries

# %%
# Recommend documents
# -------------------
# The five nearest training documents of six new documents. An asterisk marks documents of another
# module, which are not necessarily poor recommendations.

neighbors = {}
for name, (reference, queries) in embeddings.items():
    search = NearestNeighbors(n_neighbors=5).fit(reference)
    neighbors[name] = search.kneighbors(queries, return_distance=False)
for query in np.random.default_rng(0).choice(len(X_test), size=6, replace=False):
    print(f"\n{y_test[query]}.{names_test[query]}")
    for name, indices in neighbors.items():
        recommended = (
            names_train[i] + ("" if y_train[i] == y_test[query] else "*") for i in indices[query]
        )
        print(f"  {name:16} {', '.join(recommended)}")

# %%
# Plot the new documents
# ----------------------
# Colors show the modules of the new documents, which the models have not seen.

fig, axes = plt.subplots(1, 2, figsize=(16, 6.5), layout="constrained")
for ax, (name, (_, queries)) in zip(axes, embeddings.items(), strict=True):
    EmbeddingDisplay.from_predictions(queries, y_test, ax=ax)
    ax.set_title(f"{name}: new documents")
axes[0].get_legend().remove()
plt.show()
