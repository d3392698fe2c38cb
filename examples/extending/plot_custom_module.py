"""
Custom network: 1D convolution for signals
==========================================

``module`` accepts any PyTorch network. This example classifies signals in which a pattern occurs at
an unknown time. The default network treats the time steps as unordered features and has to learn
each position of a pattern separately. A convolution over time followed by global max pooling is
invariant to the position.
"""

# %%
# Generate signals
# ----------------
# There are ten classes of patterns. A pattern is the sum of three sine waves multiplied by a
# window. Each signal contains one pattern with random position and amplitude in 160 steps of noise.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay

rng = np.random.default_rng(0)
n_classes, n_samples_per_class, n_steps, width = 10, 80, 160, 32
steps = np.arange(width)
patterns = [
    np.hanning(width)
    * np.sin(2 * np.pi * (np.outer(rng.uniform(0.03, 0.3, 3), steps) + rng.random((3, 1)))).sum(0)
    for _ in range(n_classes)
]
y = np.repeat(np.arange(n_classes), n_samples_per_class)
X = rng.normal(scale=0.25, size=(len(y), n_steps)).astype(np.float32)
for signal, label in zip(X, y, strict=True):
    position = rng.integers(n_steps - width)
    signal[position : position + width] += rng.uniform(0.7, 1.4) * patterns[label]
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# Define the network
# ------------------
# ``module`` is called with the shape of a sample and the number of components. The network receives
# batches of shape ``(B, 160)``. Its output is normalized by the embedder, and its input is
# standardized.


def conv_net(input_shape, n_components):
    """Return a 1D convolutional network with global max pooling."""
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
    "default network": make_pipeline(TripletEmbedder(random_state=0), KNeighborsClassifier()),
    "1D convolution": make_pipeline(
        TripletEmbedder(module=conv_net, random_state=0), KNeighborsClassifier()
    ),
}
for name, model in models.items():
    print(f"{name:16} accuracy: {model.fit(X_train, y_train).score(X_test, y_test):.3f}")
module = models["1D convolution"][0].net_.module_
n_parameters = sum(parameter.numel() for parameter in module.parameters())
print(f"the convolutional network has {n_parameters:,} parameters")

# %%
# Plot signals and embeddings
# ---------------------------
# Three signals of each of two classes, and the embeddings of the test signals.

fig, axes = plt.subplots(1, 3, figsize=(17, 4.8), layout="constrained")
signals = [(label, signal) for label in (0, 1) for signal in X_test[y_test == label][:3]]
for i, (label, signal) in enumerate(signals):
    axes[0].plot(signal - 4 * i, color=f"C{label}", lw=1)
axes[0].set(title="Three signals of each of two classes", yticks=[], xlabel="time")
for ax, name in zip(axes[1:], ("default network", "1D convolution"), strict=True):
    EmbeddingDisplay.from_estimator(models[name][0], X_test, y_test, ax=ax)
    ax.set_title(name)
axes[1].get_legend().remove()
plt.show()
