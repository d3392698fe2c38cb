"""
Search by image, and classes that come later
============================================

A ``TripletEmbedder`` is trained on images of 70 classes. It is then asked for images like a
given one, among 100 classes: the 30 others are added by fitting the nearest neighbours again,
and nothing else.
"""

# %%
# Images
# ------
# House numbers from 00 to 99, written with the digits that come with scikit-learn, each digit
# by chance a little higher or lower, further left or right. Those who wrote the numbers
# to search with wrote none of the numbers to be found.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from sktriplet import TripletEmbedder

start = perf_counter()
rng = np.random.default_rng(0)
digits = load_digits()


def house_numbers(writings, n_each):
    """Write each number so many times, with some of the digits' writings."""
    images, labels = np.zeros((100 * n_each, 12, 24), np.uint8), np.repeat(np.arange(100), n_each)
    for image, number in zip(images, labels, strict=True):
        for digit, left in ((number // 10, 0), (number % 10, 12)):
            chosen = rng.choice(writings[digits.target[writings] == digit])
            top, left = rng.integers(0, 5), left + rng.integers(0, 5)
            image[top : top + 8, left : left + 8] = digits.images[chosen] * 15
    return images, np.char.zfill(labels.astype(str), 2)


gallery, y_gallery = house_numbers(np.arange(1000), n_each=20)
queries, y_queries = house_numbers(np.arange(1000, 1797), n_each=5)
new_classes = rng.permutation(np.unique(y_gallery))[:30]
is_known = ~np.isin(y_gallery, new_classes)
is_new_query = np.isin(y_queries, new_classes)
print(f"{len(gallery)} images to find, {is_known.sum()} of them to train on, {len(queries)} to ask")

# %%
# Train on 70 classes
# -------------------

embedder = TripletEmbedder(max_epochs=12, random_state=0)
embedder.fit(gallery[is_known], y_gallery[is_known])
spaces = {
    "raw pixels": lambda X: X.reshape(len(X), -1).astype(np.float32),
    "TripletEmbedder": embedder.transform,
}
print(f"trained on {len(embedder.classes_)} classes ({perf_counter() - start:.0f} s so far)\n")

# %%
# Search
# ------
# All images are in the gallery now, those of the new classes among them. Of the six nearest
# to each query, how many are of its class?

found = {}
print(f"{'of the 6 nearest, of the right class':40}{'known':>8}{'new':>8}")
for name, embed in spaces.items():
    search = NearestNeighbors(n_neighbors=6).fit(embed(gallery))
    found[name] = search.kneighbors(embed(queries), return_distance=False)
    right = (y_gallery[found[name]] == y_queries[:, None]).mean(axis=1)
    print(f"{name:40}{right[~is_new_query].mean():8.3f}{right[is_new_query].mean():8.3f}")

# %%
# Add classes
# -----------
# A few labelled images of each new class join the old ones in the k-NN. The network stays as
# it is.

print(f"\n{'accuracy on queries of new classes, with':40}{'raw':>8}{'ours':>8}")
for n_examples in (1, 5, 20):
    chosen = [np.flatnonzero(y_gallery == name)[:n_examples] for name in new_classes]
    rows = np.concatenate([np.flatnonzero(is_known), *chosen])
    cells = []
    for embed in spaces.values():
        knn = KNeighborsClassifier(1).fit(embed(gallery[rows]), y_gallery[rows])
        cells.append(knn.score(embed(queries[is_new_query]), y_queries[is_new_query]))
    print(f"{n_examples:3} examples of each" + " " * 20 + "".join(f"{cell:8.3f}" for cell in cells))

# %%
# Queries and their neighbours
# ----------------------------
# Five queries of known classes, and five of new ones. A frame is green where a neighbour is of
# the query's class, and red where it is not. Pixels compare what is at the same place, and so
# find numbers written at the same place; the embedder has learned to find what is written.

shown = [
    query
    for part in (np.flatnonzero(~is_new_query), np.flatnonzero(is_new_query))
    for query in np.sort(rng.choice(part, 5, replace=False))
]
figure = plt.figure(figsize=(12, 6.5), layout="constrained")
asked, *answers = figure.subfigures(1, 3, width_ratios=[1.6, 6, 6])


def draw(ax, image, colour):
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color=colour, linewidth=2)


asked.suptitle("query")
for ax, query in zip(asked.subplots(len(shown), 1), shown, strict=True):
    draw(ax, queries[query], "black")
    label = y_queries[query] + ("\n(new)" if is_new_query[query] else "")
    ax.set_ylabel(label, rotation=0, ha="right", va="center")
for part, (name, neighbors) in zip(answers, found.items(), strict=True):
    part.suptitle(f"nearest by {name}")
    axes = part.subplots(len(shown), 6)
    for row, query in zip(axes, shown, strict=True):
        for ax, neighbor in zip(row, neighbors[query], strict=True):
            is_right = y_gallery[neighbor] == y_queries[query]
            draw(ax, gallery[neighbor], "tab:green" if is_right else "tab:red")
figure.savefig("image_retrieval.png", dpi=110)
print(f"\nA picture is in image_retrieval.png ({perf_counter() - start:.0f} s in all)")
