"""
Explaining why samples are similar
==================================

A ``TripletEmbedder`` places similar samples near each other. This example shows which features of a
table, and which pixels of an image, make two samples similar or different for it: their
contributions add up to the squared distance between the embeddings.
"""

# %%
# Compare two wines
# -----------------
# We train on a part of the wine data set that is bundled with scikit-learn, and select a test
# sample and its nearest training samples of its own class and of the other classes.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import train_test_split

from sktriplet import TripletEmbedder
from sktriplet.display import DistanceContributionsDisplay
from sktriplet.inspection import distance_contributions

X, y = load_wine(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
embedder = TripletEmbedder(random_state=0).fit(X_train, y_train)


def nearest(sample, label, *, same):
    """Return the nearest training sample of the same class, or of another one, with one row."""
    candidates = X_train[(y_train == label) == same]
    distances = np.linalg.norm(embedder.transform(candidates) - embedder.transform(sample), axis=1)
    return candidates.iloc[[distances.argmin()]]


query, label = X_test.iloc[[0]], y_test.iloc[0]
fig, axes = plt.subplots(1, 2, figsize=(14, 4.5), layout="constrained")
for ax, same in zip(axes, (True, False), strict=True):
    other = nearest(query, label, same=same)
    display = DistanceContributionsDisplay.from_estimator(
        embedder, query, other, max_features=6, ax=ax
    )
    name = "same class" if same else "another class"
    ax.set_title(f"{name}: {ax.get_title()}")

# %%
# Compare two digits
# ------------------
# Pixels have contributions too. We show a digit that is easily taken for another one, together with
# the nearest image of that class. Pixels in orange move both images apart.

digits = load_digits()
images, classes = digits.images.astype(np.float32), digits.target
image_embedder = TripletEmbedder(random_state=0).fit(images[:1200], classes[:1200])
embeddings = image_embedder.transform(images[1200:])
distances = np.linalg.norm(embeddings[:, None] - embeddings, axis=2)
distances[classes[1200:, None] == classes[1200:]] = np.inf
first, second = np.unravel_index(distances.argmin(), distances.shape)
left, right = images[1200:][[first]], images[1200:][[second]]
DistanceContributionsDisplay.from_estimator(image_embedder, left, right)

# %%
# Features that matter in general
# -------------------------------
# The mean contribution over many pairs of different classes shows which features separate the
# classes in the embedding. Because contributions are in the same unit, they can be averaged.

rng = np.random.default_rng(0)
pairs = rng.integers(len(X_test), size=(100, 2))
labels = y_test.to_numpy()[pairs]
pairs = pairs[labels[:, 0] != labels[:, 1]]
result = distance_contributions(embedder, X_test.iloc[pairs[:, 0]], X_test.iloc[pairs[:, 1]])
mean = result.contributions.mean(axis=0)
for position in np.argsort(-mean):
    print(f"{X.columns[position]:30}{mean[position]:8.3f}")
plt.show()
