"""
Comparison of k-NN on raw features and on embeddings
====================================================

This example compares the accuracy of k-nearest neighbors on four data sets bundled with
scikit-learn: on raw features, on scaled features, after linear discriminant analysis (LDA), and on
the embeddings of a ``TripletEmbedder`` with default parameters. It then tunes the margin with a
grid search and plots the embedding.
"""

# %%
# Compare classifiers
# -------------------
# We compute the accuracy of 5 nearest neighbors with 3-fold cross-validation. All pipelines use the
# same folds, and no parameters are tuned.

from time import perf_counter

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import TripletEmbedder

start = perf_counter()
datasets = {
    "wine": load_wine(return_X_y=True),
    "breast_cancer": load_breast_cancer(return_X_y=True),
    "iris": load_iris(return_X_y=True),
    "digits": load_digits(return_X_y=True),
}
knn = KNeighborsClassifier(n_neighbors=5)
models = {
    "raw": knn,
    "scaled": make_pipeline(StandardScaler(), knn),
    "LDA": make_pipeline(LinearDiscriminantAnalysis(), knn),
    "TripletEmbedder": make_pipeline(TripletEmbedder(random_state=0), knn),
}
cv = StratifiedKFold(n_splits=3, shuffle=True, random_state=0)

print("accuracy of 5-NN  " + "".join(f"{name:>17}" for name in models))
for name, (X, y) in datasets.items():
    scores = [cross_val_score(model, X, y, cv=cv, n_jobs=2).mean() for model in models.values()]
    cells = (f"{score:.4f}{'*' if score == max(scores) else ' '}" for score in scores)
    print(f"{name:18}" + "".join(f"{cell:>17}" for cell in cells))
print(f"* the best of its row ({perf_counter() - start:.0f} s so far)\n")

# %%
# Tune the margin
# ---------------
# The parameters of an embedder in a pipeline are tuned as those of any other estimator. To reduce
# the training time, we use a single network instead of the default ensemble of four.

X, y = datasets["digits"]
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
search = GridSearchCV(
    make_pipeline(TripletEmbedder(n_members=1, random_state=0), knn),
    {"tripletembedder__margin": [0.1, 0.2, 0.5, 1.0]},
    cv=cv,
    n_jobs=2,
).fit(X_train, y_train)

print("digits: accuracy in 3-fold cross-validation on the training part, by margin")
for margin, mean, std in zip(
    search.cv_results_["param_tripletembedder__margin"],
    search.cv_results_["mean_test_score"],
    search.cv_results_["std_test_score"],
    strict=True,
):
    print(f"  margin {margin:<4} {mean:.4f} +- {std:.4f}")
print(f"on the test part, with the best margin: {search.score(X_test, y_test):.4f}")

# %%
# Plot the embedding
# ------------------
# The test digits, projected onto the first two principal components of the raw features and of the
# embedding.

X_embedded = search.best_estimator_[:-1].transform(X_test)
fig, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
for ax, features, title in zip(
    axes, [X_test, X_embedded], ["Raw features", "TripletEmbedder"], strict=True
):
    points = PCA(n_components=2).fit_transform(features)
    scatter = ax.scatter(*points.T, c=y_test, cmap="tab10", s=14)
    ax.set(title=title, xticks=[], yticks=[])
fig.legend(*scatter.legend_elements(), loc="outside right center", title="digit")
fig.savefig("quickstart.png", dpi=120)
print(f"\nSaved the plot as quickstart.png ({perf_counter() - start:.0f} s in total)")
