"""
Effect of the margin
====================

The margin is the minimum gap between the anchor-negative and anchor-positive distances that the
triplet loss requires. This example selects it with a grid search and shows its effect on the
distances between new samples.
"""

# %%
# Grid search
# -----------
# We train on 600 digits. Squared distances on the unit sphere are at most 4, so a margin of 2 is
# large. ``nca_weight=0`` disables the NCA term, whose temperature is proportional to the margin, to
# isolate the effect on the triplet loss.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sktriplet import TripletEmbedder
from sktriplet.display import DistanceDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)
embedder = TripletEmbedder(nca_weight=0, n_members=1, random_state=0)
margins = [0.02, 0.1, 0.5, 1.0, 2.0]
search = GridSearchCV(
    make_pipeline(embedder, KNeighborsClassifier()),
    {"tripletembedder__margin": margins},
    cv=StratifiedKFold(5, shuffle=True, random_state=0),
).fit(X_train, y_train)
means, stds = (search.cv_results_[f"{name}_test_score"] for name in ("mean", "std"))
for margin, mean, std in zip(margins, means, stds, strict=True):
    print(f"margin {margin:<5} accuracy {mean:.3f} +- {std:.3f}")
print(f"best parameters: {search.best_params_}")
print(f"test accuracy: {search.score(X_test, y_test):.3f}")

# %%
# Most differences between margins are smaller than the standard deviation over the folds. On a data
# set with little noise such as this one, tune other parameters first.

# %%
# Distances between new samples
# -----------------------------
# The following plot shows distances of pairs of test samples. A larger margin increases the
# distances between classes and makes most classes more compact. Nearest neighbors depend on the
# order of the distances only; verification with a threshold depends on the overlap of the
# two distributions.

rng = np.random.default_rng(0)
left, right = rng.integers(len(y_test), size=(2, 10_000))
left, right = left[left != right], right[left != right]
same = y_test[left] == y_test[right]
fig, axes = plt.subplots(1, 4, figsize=(17, 4.2), layout="constrained")
axes[0].errorbar(margins, means, stds, marker="o", capsize=3)
axes[0].set(xscale="log", xlabel="margin", title="Cross-validated accuracy")
for ax, margin in zip(axes[1:], (0.02, 0.5, 2.0), strict=True):
    X_embedded = embedder.set_params(margin=margin).fit(X_train, y_train).transform(X_test)
    distances = np.linalg.norm(X_embedded[left] - X_embedded[right], axis=1)
    DistanceDisplay.from_predictions(same, -distances, ax=ax)
    ax.set(title=f"Margin {margin}, AUC {roc_auc_score(same, -distances):.3f}", xlim=(0, 2))
plt.show()
