"""
Verification and clustering of unseen letters
=============================================

This example trains an embedder on images of the letters A to R and applies it to the letters S to
Z, which are not used in training. Class-wise cross-validation selects the hidden layers,
``PairVerifier`` sets a threshold to decide whether two images show the same letter, and this
threshold also determines the number of clusters of the unseen letters. The images are rendered with
the fonts bundled with matplotlib, with random rotation, scale and translation.

For faces, which are downloaded from the internet, use
``X, y = fetch_olivetti_faces(return_X_y=True)`` or
``fetch_lfw_people(min_faces_per_person=20, return_X_y=True)`` from ``sklearn.datasets``, and train
on some of the people, for example ``y < 30`` of the 40 people of the Olivetti data set. We have not
run this variant; the results and the best parameters will differ.
"""

# %%
# Generate images
# ---------------

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import affine_transform
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import RocCurveDisplay, adjusted_rand_score
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold

from sktriplet import PairVerifier, TripletEmbedder
from sktriplet.display import DistanceDisplay, EmbeddingDisplay
from sktriplet.metrics import mean_average_precision_at_r_scorer

rng = np.random.default_rng(0)
font_names = [
    f"{family}{style}.ttf"
    for family in ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
    for style in ("", "-Bold")
] + [f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")]
font_folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
fonts = [ImageFont.truetype(str(font_folder / name), 20) for name in font_names]


def render(letter):
    """Render a letter with a random font, transformation, brightness and noise."""
    canvas = Image.new("L", (32, 32))
    font = fonts[rng.integers(len(fonts))]
    ImageDraw.Draw(canvas).text((16, 16), letter, fill=255, font=font, anchor="mm")
    angle, scale = rng.normal(scale=0.1), rng.uniform(1.2, 1.5, size=2)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    offset = 15.5 - matrix @ (7.5 + rng.normal(scale=0.4, size=2))
    image = affine_transform(np.asarray(canvas) / 255, matrix, offset, (16, 16), order=1)
    return image * rng.uniform(0.6, 1) + rng.normal(scale=0.05, size=(16, 16))


y = np.repeat(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 80)
images = np.array([render(letter) for letter in y])
X = images.reshape(len(images), -1)
seen = y < "S"
X_train, y_train, X_test, y_test = X[seen], y[seen], X[~seen], y[~seen]

# %%
# Select the hidden layers
# ------------------------
# With held-out samples, all letters are seen in training, and hidden layers are better. With
# held-out letters, which is the relevant case here, a linear map is better. To reduce the training
# time, we use a single network and half of the default number of epochs.

param_grid = {"hidden_layer_sizes": [(256, 128), ()]}
print("mean average precision at R")
for held_out, cv, groups in [
    ("samples", StratifiedKFold(3), None),
    ("letters", GroupKFold(3), y_train),
]:
    search = GridSearchCV(
        TripletEmbedder(max_epochs=8, n_members=1, random_state=0),
        param_grid,
        scoring=mean_average_precision_at_r_scorer,
        cv=cv,
    ).fit(X_train, y_train, groups=groups)
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        print(f"  held-out {held_out}, {params!s:36} {score:.3f}")
print(f"selected for unseen letters: {search.best_params_}")

# %%
# Verify pairs of unseen letters
# ------------------------------
# The threshold is set on letters from A to R that were held out from the embedder, and applied to
# the letters from S to Z.

verifier = PairVerifier(search.best_estimator_).fit(X_train, y_train)
left, right = np.triu_indices(len(y_test), k=1)
subset = np.random.default_rng(0).permutation(len(left))[:20_000]
left, right = left[subset], right[subset]
pairs = np.stack([X_test[left], X_test[right]], axis=1)
same = y_test[left] == y_test[right]
accepted = verifier.predict(pairs)
print(f"threshold: {verifier.threshold_:.3f}")
for name, rate, (low, high) in [
    ("false positive", accepted[~same].mean(), verifier.false_positive_rate_interval_),
    ("false negative", (~accepted[same]).mean(), verifier.false_negative_rate_interval_),
]:
    print(f"{name} rate: {rate:.3f} (interval of the verifier: {low:.3f} to {high:.3f})")

# %%
# Cluster unseen letters
# ----------------------
# Agglomerative clustering merges clusters until their mean distance exceeds the threshold of the
# verifier, so the number of letters does not have to be known.

X_embedded = verifier.estimator_.transform(X_test)
clusters = AgglomerativeClustering(
    n_clusters=None, distance_threshold=verifier.threshold_, linkage="average"
).fit_predict(X_embedded)
sizes = np.bincount(clusters)
print(f"{np.sum(sizes >= 10)} clusters of at least 10 samples, {np.sum(sizes < 10)} smaller ones")
print(f"adjusted Rand index: {adjusted_rand_score(y_test, clusters):.3f}")

# %%
# Plot embeddings, distances and ROC curves
# -----------------------------------------

fig, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
EmbeddingDisplay.from_predictions(X_embedded, y_test, ax=axes[0])
axes[0].set_title("Embeddings of unseen letters")
DistanceDisplay.from_estimator(verifier, pairs, same, ax=axes[1])
axes[1].set_title("Distances of pairs")
decisions = {
    "TripletEmbedder": verifier.decision_function(pairs),
    "raw pixels": -np.linalg.norm(X_test[left] - X_test[right], axis=1),
}
for name, decision in decisions.items():
    RocCurveDisplay.from_predictions(same, decision, name=name, ax=axes[2])
axes[2].set_title("ROC curves")
plt.show()
