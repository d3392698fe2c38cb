"""
Custom mining function: easy positive mining
============================================

``mining`` accepts a function that selects the triplets of a batch. This example implements *easy
positive* mining (Xuan, Stylianou and Pless, WACV 2020), which selects the nearest positive of each
anchor, while batch-hard mining selects the farthest one. Easy positives allow a class to form
several clusters.

The networks are trained to distinguish odd from even digits. Each of these two classes consists of
five digits that look different. Do embeddings separate the digits, although only their parity is
used in training?
"""

# %%
# Define the miner
# ----------------
# A miner is called with the distances and the labels of a batch, and returns the indices of the
# anchors, positives and negatives.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay
from sktriplet.metrics import r_precision_score
from sktriplet.mining import Triplets


def easy_positive(distances, labels, *, margin, generator):
    """Select the nearest positive of each anchor, and the nearest negative beyond it."""
    same_class = labels[:, None] == labels
    is_positive = same_class & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    d_ap, positive = distances.where(is_positive, torch.inf).min(dim=1)
    is_farther_negative = ~same_class & (distances > d_ap[:, None])
    d_an, negative = distances.where(is_farther_negative, torch.inf).min(dim=1)
    anchor = (d_ap.isfinite() & d_an.isfinite()).nonzero().squeeze(1)
    return Triplets(anchor, positive[anchor], negative[anchor])


# %%
# Compare mining strategies
# -------------------------
# Each embedder is trained on one half of the digits. On the other half, we compute the R-precision
# for parity and for digits: the fraction of the R nearest neighbors of a sample that belong to its
# class, where R is the number of other samples in this class.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=0.5, stratify=y, random_state=0
)
embeddings = {"raw pixels": X_test}
for mining in ("semi_hard", "hard", easy_positive):
    embedder = TripletEmbedder(mining=mining, nca_weight=0, n_members=1, random_state=0)
    name = mining if isinstance(mining, str) else mining.__name__
    embeddings[name] = embedder.fit(X_train, y_train % 2).transform(X_test)
print(f"{'R-precision':16}{'parity':>9}{'digit':>9}")
for name, embedding in embeddings.items():
    parity, digit = (r_precision_score(embedding, labels) for labels in (y_test % 2, y_test))
    print(f"{name:16}{parity:9.3f}{digit:9.3f}")

# %%
# Plot the embeddings
# -------------------
# Colors show the digits, which were not used in training.

fig, axes = plt.subplots(1, 4, figsize=(18, 4.6), layout="constrained")
for ax, (name, embedding) in zip(axes, embeddings.items(), strict=True):
    EmbeddingDisplay.from_predictions(embedding, y_test, ax=ax)
    ax.set_title(name)
    if ax is not axes[-1]:
        ax.get_legend().remove()
plt.show()
