"""
Sorting a pile
==============

1,797 digits in a pile, a few of which somebody has labelled. Clustering finds groups, but not
always those that were meant: raw pixels also group by slant and by thickness. An embedder that
learns from the few labels says what was meant, and k-means then sorts the rest.
"""

# %%
# How many labels does it take?
# -----------------------------
# The adjusted Rand index is 1 where clusters and digits agree, and 0 by chance. Only digits
# without a label are counted, and k-means is never told a label. Means of three draws of the
# labels.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import train_test_split

from sktriplet import TripletEmbedder

start = perf_counter()
X, y = load_digits(return_X_y=True)
n_labels = [30, 60, 120, 240]
models = {
    "raw pixels": None,
    "LDA": LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"),
    "TripletEmbedder": TripletEmbedder(n_members=1, random_state=0),
}


def sorted_pile(model, n, draw):
    """Learn from n labels, and cluster the others."""
    few, rest = train_test_split(np.arange(len(y)), train_size=n, stratify=y, random_state=draw)
    rows = X[rest] if model is None else model.fit(X[few], y[few]).transform(X[rest])
    clusters = KMeans(n_clusters=10, n_init=3, random_state=0).fit_predict(rows)
    return rest, clusters


index = {}
print(f"{'labels':16}" + "".join(f"{n:8}" for n in n_labels))
for name, model in models.items():
    index[name] = np.zeros((len(n_labels), 3))
    for i, n in enumerate(n_labels):
        for draw in range(3):
            rest, clusters = sorted_pile(model, n, draw)
            index[name][i, draw] = adjusted_rand_score(y[rest], clusters)
    print(f"{name:16}" + "".join(f"{score:8.3f}" for score in index[name].mean(axis=1)))

# %%
# A picture
# ---------
# The mean image of each cluster, with 120 labels. Below each stands which part of it is of its
# most frequent digit.

figure = plt.figure(figsize=(14, 4.5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 2])
ax = left.subplots()
for name, scores in index.items():
    ax.errorbar(
        n_labels, scores.mean(axis=1), scores.std(axis=1), marker="o", capsize=3, label=name
    )
ax.set(xscale="log", ylim=(0, 1), xlabel="labels", title="adjusted Rand index of the others")
ax.set_xticks(n_labels, n_labels)
ax.minorticks_off()
ax.legend(loc="lower right")
for axes, (name, model) in zip(right.subplots(3, 10), models.items(), strict=True):
    rest, clusters = sorted_pile(model, 120, 0)
    counts = [np.bincount(y[rest][clusters == cluster], minlength=10) for cluster in range(10)]
    order = np.argsort([count.argmax() for count in counts], kind="stable")
    axes[0].set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center")
    for ax, cluster in zip(axes, order, strict=True):
        ax.imshow(X[rest][clusters == cluster].mean(axis=0).reshape(8, 8), cmap="gray_r")
        purity = counts[cluster].max() / counts[cluster].sum()
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{counts[cluster].argmax()}: {purity:.0%}")
figure.savefig("clustering.png", dpi=80)
print(f"\nA picture is in clustering.png ({perf_counter() - start:.0f} s in all)")
