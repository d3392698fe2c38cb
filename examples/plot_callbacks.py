"""
Watching a training
===================

Progress bars, scores after each epoch, and what a training looks like from within. scikit-learn's
callbacks need scikit-learn 1.9 or newer; skorch's, and the history, are there in any case.
"""

# %%
# A progress bar
# --------------
# ``set_callbacks`` on an embedder counts epochs; on a pipeline, ``max_propagation_depth`` says
# how deep to look. It needs ``rich``.

from time import perf_counter

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

start = perf_counter()
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
embedder = TripletEmbedder(n_members=1, max_epochs=8, random_state=0)
embedder.set_callbacks(ProgressBar()).fit(X_train, y_train)

# %%
# The history
# -----------
# A row an epoch, without asking for it. ``triplet_fraction`` is of which part of the pairs of a
# class something was left to learn, ``d_ap`` and ``d_an`` how far positives and negatives of the
# triplets are, ``spread`` warns of a collapse.

history = pd.DataFrame(embedder.history_)
columns = ["epoch", "train_loss", "triplet_fraction", "active_fraction", "d_ap", "d_an", "spread"]
print(history[columns].round(3).to_string(index=False))

# %%
# A callback of one's own
# -----------------------
# skorch's callbacks are handed over with the net. This one measures what we are after, on rows
# that the training does not have, and writes it into the history.


class Recall(Callback):
    """Recall at 1 of rows held out by hand, after each epoch."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def on_epoch_end(self, net, **kwargs):
        net.history.record("recall", recall_at_k_score(net.embed(self.X), self.y))


template = TripletNet(callbacks=[Recall(X_test.astype("float32"), y_test)])
watched = TripletEmbedder(n_members=1, max_epochs=30, net=template, random_state=0)
watched.fit(X_train, y_train)
recall = [epoch["recall"] for epoch in watched.net_.history]
print(f"recall at 1 after the first epoch {recall[0]:.3f}, after the last {recall[-1]:.3f}")

# %%
# Stopping by itself
# ------------------
# ``early_stopping=True`` does such a thing with a tenth of the rows, ends when it gets no better,
# and puts the best epoch back. The digits above serve to see whether it was right.

stopped = TripletEmbedder(n_members=1, max_epochs=30, early_stopping=True, random_state=0)
stopped.fit(X_train, y_train)
found = recall_at_k_score(stopped.transform(X_test), y_test)
print(f"stopped after {stopped.n_iter_} epochs, recall at 1 {found:.3f}")

# %%
# A picture
# ---------
# ``TrainingDisplay`` draws the history of the training that stopped by itself. To its right, the
# callback of one's own.

figure = plt.figure(figsize=(13, 5.5), layout="constrained")
left, right = figure.subfigures(1, 2)
TrainingDisplay.from_estimator(stopped, ax=left.subplots())
ax = right.subplots()
ax.plot(range(1, len(recall) + 1), recall, marker="o")
ax.set(xlabel="epoch", ylim=(0.9, 1), title="recall at 1, by a callback of one's own")
figure.savefig("callbacks.png", dpi=80)
print(f"\nA picture is in callbacks.png ({perf_counter() - start:.0f} s in all)")
