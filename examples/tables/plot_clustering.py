"""
Clustering with a few labels
============================

Clustering finds groups of similar samples, but not necessarily the groups of interest: clusters of
raw pixels also reflect the slant and thickness of handwritten digits. If a few samples are labeled,
an embedder trained on them can define the relevant similarity. This example clusters the unlabeled
digits with k-means on raw pixels, after linear discriminant analysis (LDA), and on the embeddings
of a ``TripletEmbedder``.
"""

# %%
# Number of labels
# ----------------
# The adjusted Rand index is 1 for clusters that agree with the digits, and close to 0 for random
# clusters. It is computed on the unlabeled digits only; k-means does not use any labels. Results
# are averaged over three random choices of the labeled samples.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import train_test_split

from sktriplet import TripletEmbedder

X, y = load_digits(return_X_y=True)
label_counts = [30, 60, 120, 240]
models = {
    "raw pixels": None,
    "LDA": LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"),
    "TripletEmbedder": TripletEmbedder(n_members=1, random_state=0),
}


def cluster_unlabeled(model, n_labels, random_state):
    """Fit the model on `n_labels` samples and cluster the others."""
    labeled, unlabeled = train_test_split(
        np.arange(len(y)), train_size=n_labels, stratify=y, random_state=random_state
    )
    X_new = X[unlabeled]
    if model is not None:
        X_new = model.fit(X[labeled], y[labeled]).transform(X_new)
    return unlabeled, KMeans(n_clusters=10, n_init=3, random_state=0).fit_predict(X_new)


scores = {}
print(f"{'labels':16}" + "".join(f"{n_labels:8}" for n_labels in label_counts))
for name, model in models.items():
    scores[name] = np.zeros((len(label_counts), 3))
    for i, n_labels in enumerate(label_counts):
        for seed in range(3):
            unlabeled, clusters = cluster_unlabeled(model, n_labels, seed)
            scores[name][i, seed] = adjusted_rand_score(y[unlabeled], clusters)
    print(f"{name:16}" + "".join(f"{score:8.3f}" for score in scores[name].mean(axis=1)))

# %%
# Plot the clusters
# -----------------
# The right panel shows the mean image of each cluster with 120 labels, its most frequent digit, and
# the fraction of its samples that show this digit.

fig = plt.figure(figsize=(14, 4.5), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1, 2])
ax = left.subplots()
for name, score in scores.items():
    ax.errorbar(
        label_counts, score.mean(axis=1), score.std(axis=1), marker="o", capsize=3, label=name
    )
ax.set(
    xscale="log",
    ylim=(0, 1),
    xlabel="Number of labels",
    title="Adjusted Rand index of the unlabeled digits",
)
ax.set_xticks(label_counts, label_counts)
ax.minorticks_off()
ax.legend(loc="lower right")
for axes, (name, model) in zip(right.subplots(3, 10), models.items(), strict=True):
    unlabeled, clusters = cluster_unlabeled(model, 120, 0)
    counts = [np.bincount(y[unlabeled][clusters == cluster], minlength=10) for cluster in range(10)]
    order = np.argsort([count.argmax() for count in counts], kind="stable")
    axes[0].set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center")
    for ax, cluster in zip(axes, order, strict=True):
        mean_image = X[unlabeled][clusters == cluster].mean(axis=0)
        ax.imshow(mean_image.reshape(8, 8), cmap="gray_r")
        purity = counts[cluster].max() / counts[cluster].sum()
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{counts[cluster].argmax()}: {purity:.0%}")
plt.show()
