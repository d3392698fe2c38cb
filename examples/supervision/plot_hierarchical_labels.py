"""
Hierarchical labels: a loss for similarities between classes
============================================================

Classes may be more or less similar: species in genera, products in departments, or sets of tags
that overlap. A triplet loss on labels does not distinguish between the other classes. This
example defines a loss that also receives the similarities between classes, and embeds handwritten
digits such that digits of the same group are neighbors.
"""

# %%
# Define the loss
# ---------------
# A triplet consists of an anchor and two samples, of which the one whose class is more similar to
# that of the anchor is the positive. The two samples are drawn at random, so there are at most as
# many triplets as pairs in a batch. Labels are positions in the sorted classes, and index
# the matrix of similarities.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay
from sktriplet.losses import TripletLoss
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.training import TripletNet


class SimilarityTripletLoss(nn.Module):
    """Triplet loss in which samples of a more similar class must be nearer."""

    def __init__(self, similarity, margin=0.5):
        super().__init__()
        self.register_buffer("similarity", torch.as_tensor(similarity, dtype=torch.float32))
        self.margin = margin
        self.triplet_loss = TripletLoss(margin)

    def forward(self, embeddings, labels):
        similarity = self.similarity[labels][:, labels]  # (B, B)
        is_other = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        anchor, first = is_other.nonzero(as_tuple=True)
        shift = torch.randint(1, len(labels), first.shape, device=labels.device)
        second = (anchor + shift) % len(labels)  # not the anchor
        is_positive = similarity[anchor, first] > similarity[anchor, second]
        triplets = [index[is_positive] for index in (anchor, first, second)]
        loss = self.triplet_loss(embeddings, triplets=triplets)
        self.statistics = self.triplet_loss.statistics
        return loss


# %%
# Group the classes
# -----------------
# Digits form three groups by their shapes. A digit is similar to itself by 1, to others of its
# group by 0.5, and to the rest by 0. For labels with several parts, such as genus and species, or
# for sets of tags, compute the matrix from these: the number of parts in common, or the fraction
# of shared tags.

X, y = load_digits(return_X_y=True)
groups = np.array([0, 1, 2, 2, 1, 2, 0, 1, 0, 2])  # {0, 6, 8}, {1, 4, 7}, {2, 3, 5, 9}
similarity = 0.5 * np.equal.outer(groups, groups) + 0.5 * np.eye(10)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# Train with this loss
# --------------------
# The loss is the criterion of a :class:`~sktriplet.training.TripletNet`, which passes the matrix
# on. Retrieval of groups is scored without the samples of the same digit: the neighbors that count
# are those of other digits in the group.

embedders = {
    "digits": TripletEmbedder(random_state=0),
    "digits and groups": TripletEmbedder(
        net=TripletNet(criterion=SimilarityTripletLoss, criterion__similarity=similarity),
        random_state=0,
    ),
}
print(f"{'MAP@R':20}{'of digits':>12}{'of groups':>12}")
embeddings = {}
for name, embedder in embedders.items():
    embeddings[name] = embedder.fit(X_train, y_train).transform(X_test)
    of_digits = mean_average_precision_at_r_score(embeddings[name], y_test)
    of_groups = mean_average_precision_at_r_score(embeddings[name], groups[y_test], groups=y_test)
    print(f"{name:20}{of_digits:12.3f}{of_groups:12.3f}")

# %%
# Plot the embeddings
# -------------------

fig, axes = plt.subplots(1, 2, figsize=(12, 5.5), layout="constrained")
for ax, (name, points) in zip(axes, embeddings.items(), strict=True):
    EmbeddingDisplay.from_predictions(points, y_test, ax=ax)
    ax.set_title(f"trained on {name}")
plt.show()
