"""
Mining strategies, drawn and compared
=====================================

Which triplets of a batch does each strategy take? A picture of one anchor, in the plane, and then
digits learned with each of them.
"""

# %%
# One anchor
# ----------
# Three positives, some negatives, and distances as they are in the plane. What is taken is not made
# up: the functions of ``sktriplet.mining`` are asked. Only the anchor's own triplets are
# shown; the other rows are anchors as well.

from itertools import product
from time import perf_counter

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

start = perf_counter()
margin = 0.32
anchor_and_positives = [[0, 0], [0.55, 0.65], [-1.15, 0.35], [-0.5, -1.6]]
negatives = [[0.35, -0.4], [0.95, 0.65], [-1.45, -0.35], [1.05, -0.95], [-1.2, 1.35], [1.75, 0.7]]
negatives += [[-2.2, 0.7], [0.3, -2.25], [2.2, -0.9], [0.5, 2.1], [-1.7, -1.9]]
points = np.array(anchor_and_positives + negatives, dtype=np.float32)
labels = np.repeat([0, 1], [len(anchor_and_positives), len(negatives)])
positives, others = np.flatnonzero(labels == 0)[1:], np.flatnonzero(labels)
distances = euclidean(torch.tensor(points))


def draw(ax, title, triplets, alpha=1.0):
    """Draw the rows, and those of the triplets that are the anchor's."""
    for anchor, positive, negative in triplets:
        if anchor == 0:
            ax.plot(*points[[anchor, positive]].T, c="tab:blue", alpha=alpha)
            ax.plot(*points[[positive, negative]].T, c="tab:orange", ls="--", alpha=alpha)
    ax.scatter(*points[others].T, c="tab:orange", marker="s", label="negative", zorder=3)
    ax.scatter(*points[positives].T, c="tab:blue", s=60, label="positive", zorder=3)
    ax.scatter(*points[0], c="black", s=120, marker="*", label="anchor", zorder=4)
    ax.set(title=title, xticks=[], yticks=[], xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")


def mined(miner):
    """Ask a miner of the library for its triplets of the batch."""
    generator = torch.Generator().manual_seed(0)
    triplets = miner(distances, torch.tensor(labels), margin=margin, generator=generator)
    return torch.stack(list(triplets), dim=1).tolist()


figure, axes = plt.subplots(2, 2, figsize=(9, 9.4), layout="constrained")
draw(axes[0, 0], "semi_hard: the nearest in each positive's band", mined(semi_hard))
draw(axes[0, 1], "hard: farthest positive, nearest negative", mined(hard))
draw(axes[1, 0], "random: any negative for each positive", mined(random))
draw(axes[1, 1], "all", [(0, *pair) for pair in product(positives, others)], alpha=0.3)
for distance in distances[0, positives].tolist():
    band = Annulus((0, 0), distance + margin, margin, alpha=0.12, color="tab:blue")
    axes[0, 0].add_patch(band)
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
figure.savefig("mining_strategies.png", dpi=80)

# %%
# A blue line leads from the anchor to a positive, and a dashed one on to the negative that is
# taken with it. The bands begin at the distance of a positive and are as wide as the margin.
# The negative next to the anchor is in none of them: semi-hard mining leaves it alone, and
# batch-hard takes it every time.

# %%
# Learned with each
# -----------------
# 300 digits to learn from, the others to look for; one network, triplets alone
# (``nca_weight=0``), and everything else as it is by default. Then the same with one label in five
# wrong. Differences of a point or two change with the seed.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=300, stratify=y, random_state=0
)
rng = np.random.default_rng(0)
y_noisy = np.where(rng.random(300) < 0.2, rng.integers(10, size=300), y_train)
settings = {"nca_weight": 0, "n_members": 1, "random_state": 0}
embeddings = {}
print(f"{'':12}{'labels':>10}{'recall at 1':>14}{'MAP@R':>9}")
for mining in ("semi_hard", "hard", "random", "all"):
    for kind, taught in [("right", y_train), ("1/5 wrong", y_noisy)]:
        embedder = TripletEmbedder(mining=mining, **settings).fit(X_train, taught)
        embeddings[mining, kind] = embedded = embedder.transform(X_test)
        recall = recall_at_k_score(embedded, y_test)
        precision = mean_average_precision_at_r_score(embedded, y_test)
        print(f"{mining:12}{kind:>10}{recall:14.3f}{precision:9.3f}")

# %%
# A picture
# ---------
# Digits that were not seen, by the networks that learned from labels that were partly wrong. The
# farthest "positive" of an anchor is now mostly a wrong one, and batch-hard mining, which always
# takes that, has nearly drawn all digits into one point.

figure, axes = plt.subplots(1, 4, figsize=(18, 4.6), layout="constrained")
for ax, mining in zip(axes, ("semi_hard", "hard", "random", "all"), strict=True):
    EmbeddingDisplay.from_predictions(embeddings[mining, "1/5 wrong"], y_test, ax=ax)
    ax.set_title(mining)
    if ax is not axes[-1]:
        ax.get_legend().remove()
figure.savefig("mining_compared.png", dpi=80)
print(f"\nPictures are in mining_*.png ({perf_counter() - start:.0f} s in all)")
