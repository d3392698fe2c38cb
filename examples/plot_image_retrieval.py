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
# random offset. The digits used in queries are not used in the gallery, and were written by other
# people.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from sktriplet import TripletEmbedder

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

embedder = TripletEmbedder(max_epochs=12, random_state=0)
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
    search = NearestNeighbors(n_neighbors=6).fit(transform(gallery))
    neighbors[name] = search.kneighbors(transform(queries), return_distance=False)
    precision = (y_gallery[neighbors[name]] == y_queries[:, None]).mean(axis=1)
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
# Five queries of known classes and five of new classes. Neighbors of the same class have a green
# frame, others a red one. Raw pixels find numbers that are written in the same position, while the
# embedder has learned to ignore the position.

selected = [
    query
    for part in (np.flatnonzero(~is_new_query), np.flatnonzero(is_new_query))
    for query in np.sort(rng.choice(part, 5, replace=False))
]


def show_image(ax, image, color):
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color=color, linewidth=2)


fig = plt.figure(figsize=(12, 6.5), layout="constrained")
query_panel, *neighbor_panels = fig.subfigures(1, 3, width_ratios=[1.6, 6, 6])
query_panel.suptitle("Query")
for ax, query in zip(query_panel.subplots(len(selected), 1), selected, strict=True):
    show_image(ax, queries[query], "black")
    label = y_queries[query] + ("\n(new)" if is_new_query[query] else "")
    ax.set_ylabel(label, rotation=0, ha="right", va="center")
for panel, (name, indices) in zip(neighbor_panels, neighbors.items(), strict=True):
    panel.suptitle(f"Nearest neighbors: {name}")
    for axes, query in zip(panel.subplots(len(selected), 6), selected, strict=True):
        for ax, index in zip(axes, indices[query], strict=True):
            same_class = y_gallery[index] == y_queries[query]
            show_image(ax, gallery[index], "tab:green" if same_class else "tab:red")
plt.show()
