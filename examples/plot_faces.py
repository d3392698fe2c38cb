"""
Faces: recognition and verification
===================================

A few photographs of somebody new are on file. Is this the same person? And who of all on file is
it? Both are asked of people that no training has seen.

No faces come with scikit-learn, so they are drawn here: the shape of the head, hair, eyes, brows,
nose and mouth are each person's own, while light, place, smile and noise change with every
photograph. For real ones, where there is a network to fetch them from, put

``X, person = fetch_olivetti_faces(return_X_y=True)``

in their place: 40 people of 10 photographs. This has not been run,
and drawn faces are easier: figures will be others.
"""

# %%
# Photographs
# -----------

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import RocCurveDisplay
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import PairVerifier, TripletEmbedder

start = perf_counter()
rng = np.random.default_rng(0)
side, n_people, n_photos = 24, 100, 10
down, across = np.mgrid[:side, :side] / side


def ellipse(x, y, width, height):
    return ((across - x) / width) ** 2 + ((down - y) / height) ** 2 < 1


def new_face():
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
    x, y = 0.5 + rng.uniform(-0.03, 0.03, size=2)
    image = np.full((side, side), rng.uniform(0.2, 0.5))
    image[ellipse(x, y, *face["head"])] = face["skin"]
    colour, height = face["hair"]
    image[ellipse(x, y, *face["head"] * 1.05) & (down < y - face["head"][1] + height)] = colour
    apart, above, size = face["eyes"]
    for sign in (-1, 1):
        image[ellipse(x + sign * apart, y + above, size, size * 0.8)] = 0.1
        brow, shade = face["brows"]
        image[ellipse(x + sign * apart, y + above - brow, size * 1.5, 0.02)] = shade * 0.6
    image[ellipse(x, y + above + face["nose"] * 0.7, 0.025, face["nose"] / 2)] *= 0.8
    below, width = face["mouth"]
    smile = rng.uniform(-0.6, 0.9) * (across - x) ** 2 / width
    image[ellipse(x, y + below + smile, width, 0.03)] = 0.3
    light = 1 + rng.uniform(-0.5, 0.5) * (across - 0.5) + rng.uniform(-0.2, 0.2)
    return np.clip(image * light + rng.normal(scale=0.06, size=image.shape), 0, 1)


person = np.repeat(np.arange(n_people), n_photos)
faces = [new_face() for _ in range(n_people)]
images = np.array([photograph(faces[number]) for number in person], dtype=np.float32)

# %%
# Is this the same person?
# ------------------------
# 75 people to learn from, and 25 who come later. Of two photographs of different people one pair
# in a hundred may be accepted. The verifier deals the 75 into folds, and sets its threshold on
# people whom the embedder of the fold has not seen. There are no hidden layers, as is best where
# classes come later and pictures are aligned; with photographs from the street take a pretrained
# ``module``.

X = images.reshape(len(images), -1)
learned, later = person < 75, person >= 75
embedder = TripletEmbedder(hidden_layer_sizes=(), random_state=0)
verifier = PairVerifier(embedder, target_fpr=0.01).fit(X[learned], person[learned])
left, right = np.triu_indices(later.sum(), k=1)
same = person[later][left] == person[later][right]
some = np.concatenate([np.flatnonzero(same), rng.choice(np.flatnonzero(~same), 5000)])
pairs = np.stack([X[later][left[some]], X[later][right[some]]], axis=1)
accepted = verifier.predict(pairs)
low, high = verifier.false_positive_rate_interval_
print(f"different people accepted {accepted[~same[some]].mean():.4f}", end="")
print(f", promised {low:.4f} to {high:.4f}")
print(f"the same person rejected  {(~accepted[same[some]]).mean():.4f}\n")

# %%
# Who is it?
# ----------
# Some photographs of each of the 25 are put on file, and the last five looked for.

spaces = {
    "pixels": X,
    "eigenfaces": make_pipeline(StandardScaler(), PCA(50)).fit(X[learned]).transform(X),
    "LDA": LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    .fit(X[learned], person[learned])
    .transform(X),
    "TripletEmbedder": verifier.estimator_.transform(X),
}
nth = np.arange(len(person)) % n_photos
on_file = [2, 3, 4, 5]
found = {}
print(f"{'found, on file:':16}" + "".join(f"{number:8}" for number in on_file))
for name, rows in spaces.items():
    found[name] = []
    for number in on_file:
        known, asked = later & (nth < number), later & (nth >= 5)
        knn = KNeighborsClassifier(1).fit(rows[known], person[known])
        found[name].append(knn.score(rows[asked], person[asked]))
    print(f"{name:16}" + "".join(f"{share:8.3f}" for share in found[name]))

# %%
# A picture
# ---------

figure = plt.figure(figsize=(16, 5), layout="constrained")
photos, curves = figure.subfigures(1, 2, width_ratios=[1, 2])
photos.suptitle("four photographs each of five people")
for axes, number in zip(photos.subplots(5, 4), range(75, 80), strict=True):
    for ax, image in zip(axes, images[person == number], strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.axis("off")
axes = curves.subplots(1, 2)
for name, rows in spaces.items():
    distances = np.linalg.norm(rows[later][left] - rows[later][right], axis=1)
    RocCurveDisplay.from_predictions(same, -distances, name=name, ax=axes[0])
    axes[1].plot(on_file, found[name], marker="o", label=name)
axes[0].set(xscale="log", xlim=(1e-4, 1), aspect="auto", title="are these two the same?")
axes[1].set(ylim=(0, 1.02), xticks=on_file, xlabel="photographs on file", title="who is it? found")
axes[1].legend()
figure.savefig("faces.png", dpi=80)
print(f"\nA picture is in faces.png ({perf_counter() - start:.0f} s in all)")
