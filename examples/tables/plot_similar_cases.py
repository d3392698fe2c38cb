"""
Explaining predictions with similar cases
=========================================

A nearest neighbor classifier can explain a prediction by the training samples that it is based on.
This example compares several spaces for the neighbor search on the breast cancer data set bundled
with scikit-learn: 569 tumors, benign or malignant, described by 30 measurements.
"""

# %%
# Compare classifiers
# -------------------
# We use 15 nearest neighbors on raw features, on scaled features, after LDA, and on the embeddings
# of a ``TripletEmbedder``. A logistic regression serves as a baseline that does not provide similar
# cases. The log loss measures the quality of the predicted probabilities; with k neighbors, these
# are multiples of 1/k, which is why we use 15 neighbors instead of 5. The results are for a single
# split; the standard error of an accuracy of 96% on 190 samples is 1.4 percentage points.

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
print(f"{'':20}{'accuracy':>10}{'log loss':>10}")
for name, model in models.items():
    model.fit(X_train, y_train)
    proba = np.clip(model.predict_proba(X_test), 0.01, 0.99)
    proba /= proba.sum(axis=1, keepdims=True)
    print(f"{name:20}{model.score(X_test, y_test):10.3f}{log_loss(y_test, proba):10.3f}")

# %%
# Show the most similar cases
# ---------------------------
# We select the test sample with the least certain prediction and show the five nearest of the 15
# training samples that the prediction is based on.

embedder, knn = models["TripletEmbedder"][:-1], models["TripletEmbedder"][-1]
confidence = models["TripletEmbedder"].predict_proba(X_test).max(axis=1)
query = int(confidence.argmin())
features = ["mean radius", "mean texture", "mean concavity", "worst perimeter", "worst symmetry"]
distances, indices = knn.kneighbors(embedder.transform(X_test[query : query + 1]), n_neighbors=5)
print(f"query: true class {y_test[query]}, confidence {confidence[query]:.0%}")
print(X_test.iloc[[query]][features].to_string(index=False))
similar_cases = X_train.iloc[indices[0]][features]
similar_cases = similar_cases.assign(distance=distances[0].round(2), diagnosis=y_train[indices[0]])
print("\nmost similar training samples")
print(similar_cases.to_string(index=False))

# %%
# Reject uncertain predictions
# ----------------------------
# Samples can be sorted by the confidence of their prediction, to have the least certain ones
# reviewed by an expert. We count the errors among the most confident predictions.

cumulative_errors = {}
for name in ("scaled", "TripletEmbedder", "logistic regression"):
    confidence = models[name].predict_proba(X_test).max(axis=1)
    is_error = models[name].predict(X_test) != y_test
    order = np.argsort(-confidence, kind="stable")
    cumulative_errors[name] = np.cumsum(is_error[order])

# %%
# Plot embeddings and errors
# --------------------------
# The pipeline fits the classifier on cross-fitted embeddings of the training samples, whose own
# labels have no influence on them. Its log loss is lower than on scaled features, and higher than
# that of the logistic regression.

fig, axes = plt.subplots(1, 3, figsize=(17, 4.8), layout="constrained")
for ax, name in zip(axes, ("scaled", "TripletEmbedder"), strict=False):
    EmbeddingDisplay.from_predictions(models[name][:-1].transform(X_test), y_test, ax=ax)
    ax.set_title(f"{name}: test samples")
axes[0].get_legend().remove()
for name, errors in cumulative_errors.items():
    axes[2].plot(np.arange(1, len(errors) + 1) / len(errors), errors, label=name)
axes[2].set(
    title="Errors among the most confident predictions",
    xlabel="Fraction of samples predicted, most confident first",
    ylabel="Number of errors",
)
axes[2].legend()
plt.show()
