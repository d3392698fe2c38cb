"""
Face verification and recognition
=================================

This example compares faces of people that were not seen in training, in two tasks. Verification
decides whether two photographs show the same person. Recognition finds the person of a photograph
among the people in a gallery, given a few photographs per person.

scikit-learn does not bundle a data set of faces, so we generate synthetic ones: the shape of the
head, hair, eyes, brows, nose and mouth are specific to a person, while lighting, position, smile
and noise vary between photographs. To use real photographs, which are downloaded from the internet,
replace them with

``X, person = fetch_olivetti_faces(return_X_y=True)``

which returns 10 photographs of each of 40 people. We have not run this variant; synthetic faces are
easier, so the results will differ.
"""

# %%
# Generate photographs
# --------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import PredefinedSplit, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import Pairs, PairVerifier, TripletEmbedder

rng = np.random.default_rng(0)
side, n_people, n_photos = 24, 100, 10
rows, columns = np.mgrid[:side, :side] / side


def ellipse(x, y, width, height):
    """Return a mask of the pixels inside an ellipse."""
    return ((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 < 1


def random_face():
    """Draw the characteristics of a person."""
    return {
        "head": rng.uniform([0.27, 0.34], [0.37, 0.44]),
        "hair": rng.uniform([0.02, 0.1], [0.6, 0.3]),
        "skin": rng.uniform(0.6, 0.9),
        "eyes": rng.uniform([0.1, -0.1, 0.03], [0.18, 0.0, 0.06]),
        "brows": rng.uniform([0.05, 0.2], [0.11, 0.6]),
        "nose": rng.uniform(0.06, 0.2),
        "mouth": rng.uniform([0.18, 0.06], [0.28, 0.15]),
    }


def photograph(face):
    """Draw a photograph with random position, smile, lighting and noise."""
    x, y = 0.5 + rng.uniform(-0.03, 0.03, size=2)
    image = np.full((side, side), rng.uniform(0.2, 0.5))
    image[ellipse(x, y, *face["head"])] = face["skin"]
    hair_shade, hair_height = face["hair"]
    above_hairline = rows < y - face["head"][1] + hair_height
    image[ellipse(x, y, *face["head"] * 1.05) & above_hairline] = hair_shade
    eye_dx, eye_dy, eye_size = face["eyes"]
    brow_dy, brow_shade = face["brows"]
    for sign in (-1, 1):
        eye_x = x + sign * eye_dx
        image[ellipse(eye_x, y + eye_dy, eye_size, eye_size * 0.8)] = 0.1
        image[ellipse(eye_x, y + eye_dy - brow_dy, eye_size * 1.5, 0.02)] = brow_shade * 0.6
    image[ellipse(x, y + eye_dy + face["nose"] * 0.7, 0.025, face["nose"] / 2)] *= 0.8
    mouth_dy, mouth_width = face["mouth"]
    smile = rng.uniform(-0.6, 0.9) * (columns - x) ** 2 / mouth_width
    image[ellipse(x, y + mouth_dy + smile, mouth_width, 0.03)] = 0.3
    light = 1 + rng.uniform(-0.5, 0.5) * (columns - 0.5) + rng.uniform(-0.2, 0.2)
    return np.clip(image * light + rng.normal(scale=0.06, size=image.shape), 0, 1)


person = np.repeat(np.arange(n_people), n_photos)
faces = [random_face() for _ in range(n_people)]
images = np.array([photograph(faces[number]) for number in person], dtype=np.float32)
X = images.reshape(len(images), -1)

# %%
# Verification
# ------------
# The verifier is trained on 75 people and evaluated on pairs of photographs of the other 25, with a
# target false positive rate of 1%. ``PairVerifier`` sets its threshold on people that were held out
# from the embedder. We use no hidden layers, which is a good start for unseen classes in aligned
# images; for photographs taken in uncontrolled conditions, use a pretrained ``module``.

train, test = person < 75, person >= 75
embedder = TripletEmbedder(hidden_layer_sizes=(), random_state=0)
verifier = PairVerifier(embedder, target_fpr=0.01).fit(X[train], person[train])

left, right = np.triu_indices(test.sum(), k=1)
same = person[test][left] == person[test][right]
subset = np.concatenate([np.flatnonzero(same), rng.choice(np.flatnonzero(~same), 5000)])
pairs = Pairs(X[test], indices=np.column_stack([left, right]))
accepted = verifier.predict(pairs[subset])
low, high = verifier.false_positive_rate_interval_
print(f"false positive rate: {accepted[~same[subset]].mean():.4f}", end=" ")
print(f"(interval of the verifier: {low:.4f} to {high:.4f})")
print(f"false negative rate: {(~accepted[same[subset]]).mean():.4f}\n")

# %%
# Verification with a pair list
# -----------------------------
# Benchmarks of face verification, such as Labeled Faces in the Wild (LFW), are lists of labeled
# pairs in predefined folds of different people. The threshold is set on all folds but one, and
# evaluated on that one. In each of five folds of five people, we draw 60 pairs of the same person
# and 60 pairs of different people. The embedder is frozen, so ``PairVerifier`` is fitted on pairs,
# and sets the threshold only. To use LFW, replace the list with the ``pairs`` and ``target`` of
# ``fetch_lfw_pairs(subset="10_folds")``, which has 600 consecutive pairs per fold.

fold = (person[test][left] - 75) // 5
is_in_fold = fold == (person[test][right] - 75) // 5
listed = np.concatenate(
    [
        rng.choice(np.flatnonzero(is_in_fold & (fold == number) & (same == label)), 60)
        for number in range(5)
        for label in (True, False)
    ]
)
scores = cross_validate(
    PairVerifier(FrozenEstimator(verifier.estimator_)),
    pairs[listed],
    same[listed],
    cv=PredefinedSplit(fold[listed]),
    scoring=["accuracy", "roc_auc"],
)
accuracy = scores["test_accuracy"]
print(f"accuracy: {accuracy.mean():.4f} (standard error {accuracy.std(ddof=1) / 5**0.5:.4f})")
print(f"ROC AUC:  {scores['test_roc_auc'].mean():.4f}\n")

# %%
# Recognition
# -----------
# The gallery contains two to five photographs of each of the 25 people. The queries are the last
# five photographs of each person.

embeddings = {
    "pixels": X,
    "eigenfaces": make_pipeline(StandardScaler(), PCA(50)).fit(X[train]).transform(X),
    "LDA": LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    .fit(X[train], person[train])
    .transform(X),
    "TripletEmbedder": verifier.estimator_.transform(X),
}
photo_number = np.arange(len(person)) % n_photos
gallery_sizes = [2, 3, 4, 5]
queries = test & (photo_number >= 5)
accuracies = {}
print(f"{'photos per person':18}" + "".join(f"{size:8}" for size in gallery_sizes))
for name, embedding in embeddings.items():
    accuracies[name] = []
    for size in gallery_sizes:
        gallery = test & (photo_number < size)
        knn = KNeighborsClassifier(1).fit(embedding[gallery], person[gallery])
        accuracies[name].append(knn.score(embedding[queries], person[queries]))
    print(f"{name:18}" + "".join(f"{accuracy:8.3f}" for accuracy in accuracies[name]))

# %%
# Plot photographs and results
# ----------------------------

fig = plt.figure(figsize=(16, 5), layout="constrained")
left_panel, right_panel = fig.subfigures(1, 2, width_ratios=[1, 2])
left_panel.suptitle("Four photographs of each of five people")
for axes, number in zip(left_panel.subplots(5, 4), range(75, 80), strict=True):
    for ax, image in zip(axes, images[person == number], strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.axis("off")
axes = right_panel.subplots(1, 2)
for name, embedding in embeddings.items():
    distances = np.linalg.norm(embedding[test][left] - embedding[test][right], axis=1)
    RocCurveDisplay.from_predictions(same, -distances, name=name, ax=axes[0])
    axes[1].plot(gallery_sizes, accuracies[name], marker="o", label=name)
axes[0].set(xscale="log", xlim=(1e-4, 1), aspect="auto", title="Verification")
axes[1].set(
    ylim=(0, 1.02),
    xticks=gallery_sizes,
    xlabel="Photographs per person in the gallery",
    ylabel="Accuracy",
    title="Recognition",
)
axes[1].legend()
plt.show()
