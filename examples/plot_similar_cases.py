"""
Cases like this one
===================

A tumour is benign or malignant: 569 of them, 30 measurements each, come with scikit-learn. A
classifier by neighbours can show on which known cases its answer rests. In which space should
they be near?
"""

# %%
# Neighbours as a classifier
# --------------------------
# Five neighbours, on the measurements as they are, scaled, behind LDA and behind the embedder,
# beside a logistic regression, which shows no cases. The log-loss says whether to believe how
# sure they are: neighbours are only as fine as their number, so 15 are asked here. Ten-fold
# cross-validation would be more exact; one split in three is quicker, and its standard error is
# about a point.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay

start = perf_counter()
data = load_breast_cancer(as_frame=True)
X, y = data.data, data.target_names[data.target]
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=1 / 3, stratify=y, random_state=0
)
models = {
    "raw": make_pipeline(KNeighborsClassifier(15)),
    "scaled": make_pipeline(StandardScaler(), KNeighborsClassifier(15)),
    "LDA": make_pipeline(LinearDiscriminantAnalysis(), KNeighborsClassifier(15)),
    "TripletEmbedder": make_pipeline(TripletEmbedder(random_state=0), KNeighborsClassifier(15)),
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
}
print(f"{'':20}{'accuracy':>10}{'log-loss':>10}")
for name, model in models.items():
    model.fit(X_train, y_train)
    sure = np.clip(model.predict_proba(X_test), 0.01, 0.99)
    sure /= sure.sum(axis=1, keepdims=True)
    print(f"{name:20}{model.score(X_test, y_test):10.3f}{log_loss(y_test, sure):10.3f}")

# %%
# On which cases does an answer rest?
# -----------------------------------
# The new case of which the neighbours are least sure, and its nearest known ones. Everybody may
# judge for himself whether they are alike.

embed, neighbours = models["TripletEmbedder"][:-1], models["TripletEmbedder"][-1]
certainty = models["TripletEmbedder"].predict_proba(X_test).max(axis=1)
asked = int(certainty.argmin())
columns = ["mean radius", "mean texture", "mean concavity", "worst perimeter", "worst symmetry"]
distances, found = neighbours.kneighbors(embed.transform(X_test[asked : asked + 1]), 5)
print(f"\nleast sure: {certainty[asked]:.0%} of 15; in truth it is {y_test[asked]}")
print(X_test.iloc[[asked]][columns].to_string(index=False))
known = X_train.iloc[found[0]][columns]
known = known.assign(distance=distances[0].round(2), diagnosis=y_train[found[0]])
print("\nthe nearest known cases")
print(known.to_string(index=False))

# %%
# When to pass a case on
# ----------------------
# The surer the neighbours have to be, the more cases go to somebody who looks closer, and the
# fewer of the rest are wrong.

sure_enough = {}
for name in ("scaled", "TripletEmbedder", "logistic regression"):
    probability = models[name].predict_proba(X_test).max(axis=1)
    right = models[name].predict(X_test) == y_test
    order = np.argsort(-probability, kind="stable")
    sure_enough[name] = np.cumsum(~right[order])

# %%
# A picture
# ---------

figure, axes = plt.subplots(1, 3, figsize=(17, 4.8), layout="constrained")
for ax, name in zip(axes, ("scaled", "TripletEmbedder"), strict=False):
    EmbeddingDisplay.from_predictions(models[name][:-1].transform(X_test), y_test, ax=ax)
    ax.set_title(f"{name}: cases that were not seen")
axes[0].get_legend().remove()
for name, wrong in sure_enough.items():
    axes[2].plot(np.arange(1, len(wrong) + 1) / len(wrong), wrong, label=name)
axes[2].set(
    title="wrong, if so many are answered", xlabel="part of the cases answered, surest first"
)
axes[2].legend()
figure.savefig("cases.png", dpi=80)
print(f"\nA picture is in cases.png ({perf_counter() - start:.0f} s in all)")
