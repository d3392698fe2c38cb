"""
Custom loss: multi-similarity loss
==================================

Any ``torch.nn.Module`` that is called with embeddings and labels can replace the triplet loss. This
example implements the multi-similarity loss [1]_ and compares it with the default on handwritten
digits that were not in the training data.
"""

# %%
# Define the loss
# ---------------
# The loss receives the embeddings (B, D) and the labels (B,) of a balanced batch and returns a
# scalar. If it has a dict ``statistics``, its means over each epoch are recorded in ``history_``.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from sktriplet import TripletEmbedder
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.training import TripletNet


class MultiSimilarityLoss(nn.Module):
    """Multi-similarity loss over all pairs of a batch."""

    def __init__(self, alpha=2.0, beta=50.0, base=0.5):
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.base = base

    def forward(self, embeddings, labels):
        embeddings = functional.normalize(embeddings, dim=1)
        similarities = embeddings @ embeddings.T
        is_negative = labels[:, None] != labels
        is_positive = (~is_negative).fill_diagonal_(False)
        excess = similarities - self.base
        positive_loss = log_one_plus_sum_exp(-self.alpha * excess, is_positive) / self.alpha
        negative_loss = log_one_plus_sum_exp(self.beta * excess, is_negative) / self.beta
        self.statistics = {
            "positive_similarity": similarities.detach()[is_positive].mean(),
            "negative_similarity": similarities.detach()[is_negative].mean(),
        }
        return (positive_loss + negative_loss).mean()


def log_one_plus_sum_exp(logits, mask):
    masked = logits.masked_fill(~mask, -torch.inf)
    return functional.pad(masked, (0, 1)).logsumexp(dim=1)  # the padded zero adds the one


# %%
# Train with this loss
# --------------------
# The class is passed as the criterion of a :class:`~sktriplet.training.TripletNet`, and its
# parameters with the prefix ``criterion__``. The embedder is fitted on the digits 0 to 5.

X, y = load_digits(return_X_y=True)
seen = y < 6
net = TripletNet(criterion=MultiSimilarityLoss, criterion__beta=20.0)
embedders = {
    "default": TripletEmbedder(random_state=0),
    "multi-similarity": TripletEmbedder(net=net, random_state=0),
}
scores = {"raw pixels": mean_average_precision_at_r_score(X[~seen], y[~seen])}
for name, embedder in embedders.items():
    scores[name] = embedder.fit(X[seen], y[seen]).score(X[~seen], y[~seen])
    print(f"{name}: MAP@R of the digits 6 to 9 is {scores[name]:.2f}")

# %%
# Plot the recorded statistics and the scores
# -------------------------------------------

history = embedders["multi-similarity"].history_
epochs = [epoch["epoch"] for epoch in history]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for name in ("positive_similarity", "negative_similarity"):
    left.plot(epochs, [epoch[name] for epoch in history], marker=".", label=name.replace("_", " "))
left.set(xlabel="epoch", ylabel="mean cosine similarity", title="Training batches")
left.legend()
right.barh(list(scores), list(scores.values()))
right.set(xlabel="MAP@R", title="Unseen digits")
plt.show()

# %%
# .. rubric:: References
#
# .. [1] Wang, Han, Huang, Dong and Scott, "Multi-Similarity Loss with General Pair Weighting for
#    Deep Metric Learning", CVPR 2019.
