"""
Nearest neighbours, before and after
====================================

k-nearest neighbours on four of scikit-learn's bundled data sets: on the raw features, on
scaled ones, behind linear discriminant analysis (LDA), and behind a ``TripletEmbedder`` with
default parameters. Then a grid search over the margin, and a picture.
"""

# %%
# One table
# ---------
# Accuracy of 5 nearest neighbours in 3-fold cross-validation. Everything has the same folds,
# and nothing is tuned.

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
data_sets = {
    "wine": load_wine(return_X_y=True),
    "breast_cancer": load_breast_cancer(return_X_y=True),
    "iris": load_iris(return_X_y=True),
    "digits": load_digits(return_X_y=True),
}
knn = KNeighborsClassifier(n_neighbors=5)
contenders = {
    "raw": knn,
    "scaled": make_pipeline(StandardScaler(), knn),
    "LDA": make_pipeline(LinearDiscriminantAnalysis(), knn),
    "TripletEmbedder": make_pipeline(TripletEmbedder(random_state=0), knn),
}
folds = StratifiedKFold(n_splits=3, shuffle=True, random_state=0)

print("accuracy of 5-NN  " + "".join(f"{name:>17}" for name in contenders))
for data_set, (X, y) in data_sets.items():
    scores = [
        cross_val_score(model, X, y, cv=folds, n_jobs=2).mean() for model in contenders.values()
    ]
    best = max(scores)
    cells = (f"{score:.4f}{'*' if score == best else ' '}" for score in scores)
    print(f"{data_set:18}" + "".join(f"{cell:>17}" for cell in cells))
print(f"* the best of its row ({perf_counter() - start:.0f} s so far)\n")

# %%
# The margin
# ----------
# It is a parameter like any other, and a pipeline is searched like any other. Of the four networks
# side by side that are the default, one is enough for a first look.

X, y = data_sets["digits"]
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
search = GridSearchCV(
    make_pipeline(TripletEmbedder(n_members=1, random_state=0), knn),
    {"tripletembedder__margin": [0.1, 0.2, 0.5, 1.0]},
    cv=folds,
    n_jobs=2,
).fit(X_train, y_train)

print("digits: accuracy in 3-fold cross-validation on the training part, by margin")
results = search.cv_results_
for margin, mean, spread in zip(
    results["param_tripletembedder__margin"],
    results["mean_test_score"],
    results["std_test_score"],
    strict=True,
):
    print(f"  margin {margin:<4} {mean:.4f} +- {spread:.4f}")
print(f"on the test part, with the best margin: {search.score(X_test, y_test):.4f}")

# %%
# A picture
# ---------
# Digits that the network has not seen, in the two directions of largest variance: of the
# raw features, and of the embedding.

embedding = search.best_estimator_[:-1].transform(X_test)
figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
for ax, rows, title in zip(
    axes, [X_test, embedding], ["raw features", "TripletEmbedder"], strict=True
):
    points = PCA(2).fit_transform(rows)
    drawn = ax.scatter(*points.T, c=y_test, cmap="tab10", s=14)
    ax.set(title=title, xticks=[], yticks=[])
figure.legend(*drawn.legend_elements(), loc="outside right center", title="digit")
figure.savefig("quickstart.png", dpi=120)
print(f"\nA picture of the embedding is in quickstart.png ({perf_counter() - start:.0f} s in all)")
