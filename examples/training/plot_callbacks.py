"""
Monitoring training
===================

This example shows how to monitor the training of a ``TripletEmbedder`` with progress bars, the
training history, and custom callbacks, and how to stop it early. scikit-learn's callbacks require
scikit-learn 1.9 or newer; skorch's callbacks and the history are always available.
"""

# %%
# Progress bar
# ------------
# ``set_callbacks`` on an embedder shows the progress of its epochs. On a pipeline or a grid search,
# ``ProgressBar(max_propagation_depth=...)`` sets how many levels of nested estimators are shown.
# The progress bar requires ``rich``.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from sktriplet import TripletEmbedder
from sktriplet.display import TrainingDisplay
from sktriplet.metrics import recall_at_k_score
from sktriplet.training import TripletNet

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
embedder = TripletEmbedder(n_members=1, max_epochs=8, random_state=0)
embedder.set_callbacks(ProgressBar()).fit(X_train, y_train)

# %%
# Training history
# ----------------
# The ``history_`` attribute has one entry per epoch. ``triplet_fraction`` is the fraction of
# same-class pairs for which a triplet was found, and ``active_fraction`` the fraction of triplets
# with a nonzero loss. ``d_ap`` and ``d_an`` are the mean distances to the positives and negatives
# of the triplets. A ``spread`` close to zero indicates a collapsed embedding.

history = pd.DataFrame(embedder.history_)
columns = ["epoch", "train_loss", "triplet_fraction", "active_fraction", "d_ap", "d_an", "spread"]
print(history[columns].round(3).to_string(index=False))

# %%
# Custom callback
# ---------------
# skorch callbacks are passed with the ``net`` parameter. This one computes the recall at 1 on
# held-out samples after each epoch and records it in the history.


class HeldOutRecall(Callback):
    """Record the recall at 1 on held-out samples after each epoch."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def on_epoch_end(self, net, **kwargs):
        net.history.record("recall", recall_at_k_score(net.embed(self.X), self.y))


net = TripletNet(callbacks=[HeldOutRecall(X_test.astype("float32"), y_test)])
monitored = TripletEmbedder(n_members=1, max_epochs=30, net=net, random_state=0)
monitored.fit(X_train, y_train)
recalls = [epoch["recall"] for epoch in monitored.net_.history]
print(f"recall at 1 after the first epoch: {recalls[0]:.3f}, after the last: {recalls[-1]:.3f}")

# %%
# Early stopping
# --------------
# With ``early_stopping=True``, the embedder scores a held-out tenth of the training samples after
# each epoch, stops when the score no longer improves, and restores the weights of the best epoch.

early_stopped = TripletEmbedder(n_members=1, max_epochs=30, early_stopping=True, random_state=0)
early_stopped.fit(X_train, y_train)
recall = recall_at_k_score(early_stopped.transform(X_test), y_test)
print(f"stopped after {early_stopped.n_iter_} epochs, recall at 1: {recall:.3f}")

# %%
# Plot the training history
# -------------------------
# ``TrainingDisplay`` plots the history of the embedder with early stopping. The right panel shows
# the values recorded by the custom callback.

fig = plt.figure(figsize=(13, 5.5), layout="constrained")
left, right = fig.subfigures(1, 2)
TrainingDisplay.from_estimator(early_stopped, ax=left.subplots())
ax = right.subplots()
ax.plot(range(1, len(recalls) + 1), recalls, marker="o")
ax.set(xlabel="epoch", ylim=(0.9, 1), title="Recall at 1 recorded by the custom callback")
plt.show()
