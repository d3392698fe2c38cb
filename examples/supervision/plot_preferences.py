"""
Recommending from preferences
=============================

Users rarely assign items to classes, but they choose: somebody who likes one wine prefers a second
one to a third. A ``ComparisonEmbedder`` learns from such comparisons, and embeds similar items near
each other, including items that nobody has compared yet.
"""

# %%
# Simulate choices
# ----------------
# The wines of scikit-learn's dataset have 13 measured features, of which users taste three. The
# first sample of each comparison is a wine that a user likes, and the second is chosen over the
# third because its taste is more similar. One choice in ten is the wrong one.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from sktriplet import ComparisonEmbedder, TripletEmbedder

rng = np.random.default_rng(0)
wines = load_wine(as_frame=True).data
TASTED = ["alcohol", "malic_acid", "color_intensity"]
table = StandardScaler().fit_transform(wines)
taste = table[:, [wines.columns.get_loc(name) for name in TASTED]]


def simulate_choices(candidates, n_comparisons, error_rate=0.1):
    """Return the indices of the liked, the chosen, and the other wine (n_comparisons, 3)."""
    drawn = rng.permuted(np.tile(candidates, (n_comparisons, 1)), axis=1)[:, :3]
    distances = np.linalg.norm(taste[drawn[:, 1:]] - taste[drawn[:, :1]], axis=2)
    is_swapped = (distances[:, 0] > distances[:, 1]) ^ (rng.random(n_comparisons) < error_rate)
    drawn[is_swapped] = drawn[is_swapped][:, [0, 2, 1]]
    return drawn


known, new = train_test_split(np.arange(len(table)), test_size=0.4, random_state=0)
choices = simulate_choices(known, 2000)
test_choices = simulate_choices(new, 2000, error_rate=0)

# %%
# Learn from the choices
# ----------------------
# The triplets of samples are ``table[choices]``, of shape (n_comparisons, 3, n_features). The score
# is the fraction of comparisons of new wines that the distances predict. Without learning, all
# features have the same weight. Taste varies continuously, so embeddings are not normalized.

test_triplets = table[test_choices]
to_liked = np.linalg.norm(test_triplets[:, 1:] - test_triplets[:, :1], axis=2)
baseline = (to_liked[:, 0] < to_liked[:, 1]).mean()
embedder = TripletEmbedder(hidden_layer_sizes=(), normalize=False, random_state=0)
numbers = [50, 100, 200, 500, 1000, 2000]
scores = []
for number in numbers:
    model = ComparisonEmbedder(embedder).fit(table[choices[:number]])
    scores.append(model.score(test_triplets))
    print(f"{number:5} comparisons: {scores[-1]:.3f}")
print(f"   no comparisons: {baseline:.3f}")

# %%
# Recommend wines
# ---------------
# The known wines whose taste is most similar to that of a new one.

search = NearestNeighbors(n_neighbors=3).fit(model.transform(table[known]))
nearest = search.kneighbors(model.transform(table[new]), return_distance=False)
print(wines.loc[[new[0], *known[nearest[0]]], TASTED].round(1).to_string())

# %%
# Plot the scores
# ---------------

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.semilogx(numbers, scores, marker="o", label="learned from comparisons")
ax.axhline(baseline, color="gray", linestyle="--", label="equal weights of all features")
ax.set(xlabel="number of comparisons", ylabel="correctly predicted comparisons")
ax.legend(frameon=False)
plt.show()
