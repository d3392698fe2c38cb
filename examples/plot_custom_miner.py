"""
A miner of one's own
====================

Odd or even? Each of these two classes is five digits, which look nothing alike. Batch-hard mining
fetches the farthest row of the class, a 1 to a 7, a 0 to a 4. *Easy positive* mining (Xuan,
Stylianou and Pless, WACV 2020) takes the nearest instead, and lets a class lie in several places.
It takes ten lines. Does it keep digits apart, of which it was told only whether they are odd?
"""

# %%
# The miner
# ---------
# It gets the distances of a batch and the labels, and returns three columns of indices.

from time import perf_counter

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay
from sktriplet.metrics import r_precision_score
from sktriplet.mining import Triplets

start = perf_counter()


def easy_positive(distances, labels, *, margin, generator):
    """For each anchor its nearest positive, and the nearest negative beyond."""
    same = labels[:, None] == labels
    alike = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    d_ap, positive = distances.where(alike, torch.inf).min(dim=1)
    farther = ~same & (distances > d_ap[:, None])
    d_an, negative = distances.where(farther, torch.inf).min(dim=1)
    anchor = (d_ap.isfinite() & d_an.isfinite()).nonzero().squeeze(1)
    return Triplets(anchor, positive[anchor], negative[anchor])


# %%
# What is left of the digits?
# ---------------------------
# Half of them are learned from, by odd and even. Of the others: are neighbours of the same
# parity, and are they of the same digit? R-precision looks at as many neighbours as the class, or
# the digit, has.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=0.5, stratify=y, random_state=0
)
embeddings = {"raw pixels": X_test}
for mining in ("semi_hard", "hard", easy_positive):
    embedder = TripletEmbedder(mining=mining, nca_weight=0, n_members=1, random_state=0)
    name = mining if isinstance(mining, str) else mining.__name__
    embeddings[name] = embedder.fit(X_train, y_train % 2).transform(X_test)
print(f"{'R-precision':16}{'odd or even':>13}{'digit':>9}")
for name, embedding in embeddings.items():
    parity, digit = (r_precision_score(embedding, labels) for labels in (y_test % 2, y_test))
    print(f"{name:16}{parity:13.3f}{digit:9.3f}")

# %%
# A picture
# ---------
# Coloured by digit, of which no network was told.

figure, axes = plt.subplots(1, 4, figsize=(18, 4.6), layout="constrained")
for ax, (name, embedding) in zip(axes, embeddings.items(), strict=True):
    EmbeddingDisplay.from_predictions(embedding, y_test, ax=ax)
    ax.set_title(name)
    if ax is not axes[-1]:
        ax.get_legend().remove()
figure.savefig("own_miner.png", dpi=80)
print(f"\nA picture is in own_miner.png ({perf_counter() - start:.0f} s in all)")
