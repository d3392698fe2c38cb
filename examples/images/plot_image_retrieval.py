"""
Image retrieval with new classes
================================

This example trains a ``TripletEmbedder`` on images of 70 classes and uses it to search a gallery of
100 classes. The 30 new classes are added by refitting the nearest neighbor search only.
"""

# %%
# Generate images
# ---------------
# House numbers from 00 to 99 are composed of the digits bundled with scikit-learn, each with a
# random offset. The digits used in queries are not used in the gallery.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from sktriplet import TripletEmbedder
from sktriplet.display import NeighborsDisplay
from sktriplet.metrics import precision_at_k_score

rng = np.random.default_rng(0)
digits = load_digits()


def make_house_numbers(indices, n_samples_per_class):
    """Return images of all house numbers, composed of the digits with the given indices."""
    labels = np.repeat(np.arange(100), n_samples_per_class)
    images = np.zeros((len(labels), 12, 24), np.uint8)
    for image, number in zip(images, labels, strict=True):
        for digit, left in ((number // 10, 0), (number % 10, 12)):
            index = rng.choice(indices[digits.target[indices] == digit])
            top, left = rng.integers(0, 5), left + rng.integers(0, 5)
            image[top : top + 8, left : left + 8] = digits.images[index] * 15
    return images, np.char.zfill(labels.astype(str), 2)


gallery, y_gallery = make_house_numbers(np.arange(1000), n_samples_per_class=20)
queries, y_queries = make_house_numbers(np.arange(1000, 1797), n_samples_per_class=5)
new_classes = rng.permutation(np.unique(y_gallery))[:30]
is_known = ~np.isin(y_gallery, new_classes)
is_new_query = np.isin(y_queries, new_classes)
print(f"{is_known.sum()} training images, {len(gallery)} gallery images, {len(queries)} queries")

# %%
# Train on 70 classes
# -------------------

embedder = TripletEmbedder(max_epochs=4, random_state=0)
embedder.fit(gallery[is_known], y_gallery[is_known])
transforms = {
    "raw pixels": lambda X: X.reshape(len(X), -1).astype(np.float32),
    "TripletEmbedder": embedder.transform,
}

# %%
# Search the gallery
# ------------------
# The gallery contains images of all 100 classes. We compute the fraction of the six nearest
# neighbors of each query that belong to its class.

neighbors = {}
print(f"{'precision at 6':28}{'known':>10}{'new':>10}")
for name, transform in transforms.items():
    embeddings, reference = transform(queries), transform(gallery)
    precision = precision_at_k_score(
        embeddings, y_queries, k=6, reference=reference, reference_y=y_gallery, average=None
    )
    search = NearestNeighbors(n_neighbors=6).fit(reference)
    neighbors[name] = search.kneighbors(embeddings, return_distance=False)
    print(f"{name:28}{precision[~is_new_query].mean():10.3f}{precision[is_new_query].mean():10.3f}")

# %%
# Classify new classes
# --------------------
# To classify images of new classes, add a few labeled images of each new class to the k-NN
# classifier. The embedder is not retrained.

print(f"{'accuracy on new classes':28}" + "".join(f"{name:>18}" for name in transforms))
for n_samples in (1, 5, 20):
    new_samples = [np.flatnonzero(y_gallery == label)[:n_samples] for label in new_classes]
    train = np.concatenate([np.flatnonzero(is_known), *new_samples])
    accuracies = []
    for transform in transforms.values():
        knn = KNeighborsClassifier(1).fit(transform(gallery[train]), y_gallery[train])
        accuracies.append(knn.score(transform(queries[is_new_query]), y_queries[is_new_query]))
    print(f"{n_samples:3} images per class{'':9}" + "".join(f"{a:18.3f}" for a in accuracies))

# %%
# Plot queries and their neighbors
# --------------------------------
# Five queries of known classes, and five of new classes below. Neighbors of the same class have a
# solid green frame, others a dashed orange one. Raw pixels find numbers that are written in the
# same position, while the embedder has learned to ignore the position.

selected = [
    query
    for part in (np.flatnonzero(~is_new_query), np.flatnonzero(is_new_query))
    for query in np.sort(rng.choice(part, 5, replace=False))
]
fig = plt.figure(figsize=(13, 9), layout="constrained")
for panel, (name, indices) in zip(fig.subfigures(1, 2), neighbors.items(), strict=True):
    images = np.concatenate([queries[selected, None], gallery[indices[selected]]], axis=1)
    labels = np.column_stack([y_queries[selected], y_gallery[indices[selected]]])
    NeighborsDisplay(images, labels).plot(ax=panel.subplots(), cmap="gray_r")
    panel.suptitle(name)
plt.show()
