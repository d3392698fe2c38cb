"""
Signals: recognition of letters by their outlines
=================================================

A pen that traces the outline of a letter gives a signal of two channels, x and y, over time. This
example learns to recognize letters by these signals, in fonts that were not used in training.
``input_shape=(channels, length)`` says that the samples are sequences, not images.
"""

# %%
# Trace the outlines
# ------------------
# The longest outline of each letter or digit, in the fonts bundled with matplotlib, is resampled to
# 96 points. A trace may start anywhere on the outline, so signals of a class are not aligned.

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sktriplet import TripletEmbedder

CHARACTERS = "ABCDEFGHIJKLMNPQRSTUVWXYZ23456789"
LENGTH, N_STARTS = 96, 3
rng = np.random.default_rng(0)


def trace(character, font):
    """Return the points of the longest outline, (2, LENGTH), centered, of unit height."""
    path = TextPath((0, 0), character, size=100, prop=FontProperties(fname=font))
    outline = max(path.to_polygons(closed_only=True), key=len)
    steps = np.linalg.norm(np.diff(outline, axis=0), axis=1)
    position = np.concatenate([[0], steps.cumsum()])
    times = np.linspace(0, position[-1], LENGTH, endpoint=False)
    points = np.stack([np.interp(times, position, outline[:, axis]) for axis in (0, 1)])
    middle = (points.max(axis=1, keepdims=True) + points.min(axis=1, keepdims=True)) / 2
    return (points - middle) / np.ptp(points[1])


def make_signals(fonts):
    """Return traces that start at random points, (n_samples, 2, LENGTH), and their letters."""
    traces = [(trace(c, font), c) for font in fonts for c in CHARACTERS for _ in range(N_STARTS)]
    X = np.stack([np.roll(points, rng.integers(LENGTH), axis=1) for points, _ in traces])
    return X.astype(np.float32), np.array([character for _, character in traces])


folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
X_train, y_train = make_signals(sorted(folder.glob("DejaVuS*.ttf")))
X_test, y_test = make_signals(
    folder / f"{name}.ttf"
    for name in ("STIXGeneral", "STIXGeneralBol", "cmr10", "cmss10", "cmtt10")
)
print(f"{len(X_train)} training signals of shape {X_train.shape[1:]}, {len(X_test)} test signals")

# %%
# Compare with the network for tables
# -----------------------------------
# The default network for sequences consists of convolutions over time, followed by means and maxima
# over time, which hardly depend on when a pattern occurs.


def flat(X):
    return X.reshape(len(X), -1)


def make_classifier(**parameters):
    embedder = TripletEmbedder(max_epochs=10, random_state=0, **parameters)
    return make_pipeline(embedder, KNeighborsClassifier(1))


models = {
    "raw points": (KNeighborsClassifier(1), flat),
    "as a table": (make_classifier(), flat),
    "as a sequence": (make_classifier(input_shape=(2, LENGTH)), np.asarray),
}
for name, (model, convert) in models.items():
    accuracy = model.fit(convert(X_train), y_train).score(convert(X_test), y_test)
    print(f"{name:16} accuracy in new fonts: {accuracy:.3f}")

# %%
# Arrays with channels last, and flat rows, as other steps of a pipeline return them, are also
# accepted.

embedder = models["as a sequence"][0][0]
difference = embedder.transform(X_test) - embedder.transform(X_test.transpose(0, 2, 1))
print(f"largest difference: {np.abs(difference).max():.0e}")

# %%
# Plot neighbors
# --------------
# Some test signals, and the training signals that are nearest to them. Dots mark where the traces
# start.

nearest = KNeighborsClassifier(1).fit(embedder.transform(X_train), y_train)
selected = np.concatenate([np.flatnonzero(y_test == c)[:1] for c in "AEGMRS58"])
found = nearest.kneighbors(embedder.transform(X_test[selected]), return_distance=False)[:, 0]
fig, axes = plt.subplots(2, len(selected), figsize=(12, 3.5), layout="constrained")
for row, signals in zip(axes, (X_test[selected], X_train[found]), strict=True):
    for ax, (x, y) in zip(row, signals, strict=True):
        ax.plot(np.append(x, x[0]), np.append(y, y[0]), lw=1)
        ax.plot(x[0], y[0], "o", color="C1")
        ax.set(aspect="equal", xticks=[], yticks=[])
axes[0, 0].set_ylabel("new font")
axes[1, 0].set_ylabel("nearest")
plt.show()
