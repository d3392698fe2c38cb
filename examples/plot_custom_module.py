"""
A network of one's own
======================

Signals in which something happens, nobody knows when. The default network does not know
which columns are neighbours, and a shape that comes later is another shape to it. A convolution
over time with a maximum at its end does not care when. It is a few lines of PyTorch, handed over
as ``module``.
"""

# %%
# Signals
# -------
# Made up: ten kinds of short waves, each a mix of three sines under a window, somewhere in 160
# steps of noise, and louder or quieter.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay

start = perf_counter()
rng = np.random.default_rng(0)
n_kinds, n_each, length, width = 10, 80, 160, 32
steps = np.arange(width)
kinds = [
    np.hanning(width)
    * np.sin(2 * np.pi * (np.outer(rng.uniform(0.03, 0.3, 3), steps) + rng.random((3, 1)))).sum(0)
    for _ in range(n_kinds)
]
y = np.repeat(np.arange(n_kinds), n_each)
X = rng.normal(scale=0.25, size=(len(y), length)).astype(np.float32)
for row, kind in zip(X, y, strict=True):
    when = rng.integers(length - width)
    row[when : when + width] += rng.uniform(0.7, 1.4) * kinds[kind]
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# The network
# -----------
# ``module`` is called with the shape of a row and the width of the embedding. It gets batches
# ``(B, 160)``, and ends where the embedding begins: the unit sphere is put behind it. Columns are
# centred and scaled before it. That is right for tables; for signals it changes little, as all
# steps are alike.


def over_time(input_shape, n_components):
    """Convolve, and keep the largest value of each channel."""
    return nn.Sequential(
        nn.Unflatten(1, (1, *input_shape)),
        nn.Conv1d(1, 32, kernel_size=15),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Conv1d(32, 64, kernel_size=15, stride=2),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(64, n_components),
    )


models = {
    "raw signals": KNeighborsClassifier(),
    "the default network": make_pipeline(TripletEmbedder(random_state=0), KNeighborsClassifier()),
    "over time": make_pipeline(
        TripletEmbedder(module=over_time, random_state=0), KNeighborsClassifier()
    ),
}
for name, model in models.items():
    print(f"{name:22}{model.fit(X_train, y_train).score(X_test, y_test):.3f} of new signals right")
size = sum(weights.numel() for weights in models["over time"][0].net_.module_.parameters())
print(f"the network over time has {size:,} weights")

# %%
# A picture
# ---------
# Three signals of each of two kinds, and what both networks make of those that were not seen.

figure, axes = plt.subplots(1, 3, figsize=(17, 4.8), layout="constrained")
for offset, (kind, place) in enumerate((kind, place) for kind in (0, 1) for place in range(3)):
    signal = X_test[y_test == kind][place]
    axes[0].plot(signal - 4 * offset, color=f"C{kind}", lw=1)
axes[0].set(title="three signals each of two kinds", yticks=[], xlabel="time")
for ax, name in zip(axes[1:], ("the default network", "over time"), strict=True):
    EmbeddingDisplay.from_estimator(models[name][0], X_test, y_test, ax=ax)
    ax.set_title(name)
axes[1].get_legend().remove()
figure.savefig("own_module.png", dpi=80)
print(f"\nA picture is in own_module.png ({perf_counter() - start:.0f} s in all)")
