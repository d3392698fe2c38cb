"""
Comparison of mining strategies
===============================

This example visualizes the triplets that each mining strategy selects for one anchor, and compares
embeddings of digits trained with each strategy, with and without label noise.
"""

# %%
# Triplets of one anchor
# ----------------------
# The batch contains an anchor, three positives and several negatives in the plane. The triplets are
# selected by the functions in ``sktriplet.mining``. Only the triplets of one anchor are shown; the
# other samples of the batch are also used as anchors.

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Annulus
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay
from sktriplet.distances import euclidean
from sktriplet.metrics import mean_average_precision_at_r_score, recall_at_k_score
from sktriplet.mining import hard, random, semi_hard

margin = 0.32
anchor_and_positives = [[0, 0], [0.55, 0.65], [-1.15, 0.35], [-0.5, -1.6]]
negatives = [[0.35, -0.4], [0.95, 0.65], [-1.45, -0.35], [1.05, -0.95], [-1.2, 1.35], [1.75, 0.7]]
negatives += [[-2.2, 0.7], [0.3, -2.25], [2.2, -0.9], [0.5, 2.1], [-1.7, -1.9]]
points = np.array(anchor_and_positives + negatives, dtype=np.float32)
labels = np.repeat([0, 1], [len(anchor_and_positives), len(negatives)])
positive_indices, negative_indices = np.flatnonzero(labels == 0)[1:], np.flatnonzero(labels)
distances = euclidean(torch.tensor(points))


def mine(miner):
    """Return the triplets of the batch that a miner selects."""
    generator = torch.Generator().manual_seed(0)
    triplets = miner(distances, torch.tensor(labels), margin=margin, generator=generator)
    return torch.stack(list(triplets), dim=1).tolist()


def plot_triplets(ax, title, triplets, alpha=1.0):
    """Plot the samples and the triplets of the first anchor."""
    for anchor, positive, negative in triplets:
        if anchor == 0:
            ax.plot(*points[[anchor, positive]].T, c="tab:blue", alpha=alpha)
            ax.plot(*points[[positive, negative]].T, c="tab:orange", ls="--", alpha=alpha)
    ax.scatter(*points[negative_indices].T, c="tab:orange", marker="s", label="negative", zorder=3)
    ax.scatter(*points[positive_indices].T, c="tab:blue", s=60, label="positive", zorder=3)
    ax.scatter(*points[0], c="black", s=120, marker="*", label="anchor", zorder=4)
    ax.set(title=title, xticks=[], yticks=[], xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")


fig, axes = plt.subplots(2, 2, figsize=(9, 9.4), layout="constrained")
plot_triplets(axes[0, 0], "semi_hard: nearest negative in each band", mine(semi_hard))
plot_triplets(axes[0, 1], "hard: farthest positive, nearest negative", mine(hard))
plot_triplets(axes[1, 0], "random: random negative for each positive", mine(random))
all_triplets = [(0, *pair) for pair in product(positive_indices, negative_indices)]
plot_triplets(axes[1, 1], "all: every triplet", all_triplets, alpha=0.3)
for distance in distances[0, positive_indices].tolist():
    band = Annulus((0, 0), distance + margin, margin, alpha=0.12, color="tab:blue")
    axes[0, 0].add_patch(band)
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %%
# A solid line connects the anchor with a positive, and a dashed line connects this positive with
# the negative of the triplet. Each band starts at the distance of a positive and is as wide as the
# margin. The negative closest to the anchor is outside all bands: semi-hard mining ignores it,
# while batch-hard mining always selects it.

# %%
# Embeddings of digits
# --------------------
# We train on 300 digits and evaluate on the others, with a single network, the triplet loss only
# (``nca_weight=0``) and default values for all other parameters. Then we repeat this with 20% of
# the labels replaced by random ones. Differences of one or two percentage points depend on the
# seed.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=300, stratify=y, random_state=0
)
rng = np.random.default_rng(0)
y_noisy = np.where(rng.random(300) < 0.2, rng.integers(10, size=300), y_train)
embeddings = {}
print(f"{'mining':12}{'labels':>8}{'recall at 1':>14}{'MAP@R':>9}")
for mining in ("semi_hard", "hard", "random", "all"):
    embedder = TripletEmbedder(mining=mining, nca_weight=0, n_members=1, random_state=0)
    for name, y_fit in [("clean", y_train), ("noisy", y_noisy)]:
        X_embedded = embedder.fit(X_train, y_fit).transform(X_test)
        recall = recall_at_k_score(X_embedded, y_test)
        map_at_r = mean_average_precision_at_r_score(X_embedded, y_test)
        print(f"{mining:12}{name:>8}{recall:14.3f}{map_at_r:9.3f}")
        embeddings[mining, name] = X_embedded

# %%
# Plot the embeddings
# -------------------
# Embeddings of the test digits, learned from noisy labels. The farthest positive of an anchor is
# now usually a mislabeled sample. Batch-hard mining always selects it, and maps most digits to
# a small region.

fig, axes = plt.subplots(1, 4, figsize=(18, 4.6), layout="constrained")
for ax, mining in zip(axes, ("semi_hard", "hard", "random", "all"), strict=True):
    EmbeddingDisplay.from_predictions(embeddings[mining, "noisy"], y_test, ax=ax)
    ax.set_title(mining)
    if ax is not axes[-1]:
        ax.get_legend().remove()
plt.show()
