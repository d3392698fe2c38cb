"""
Re-identification across cameras
================================

Has the person in this picture been seen by another camera? It is hard since pictures of
one camera look alike, whoever is in them. And it is easily scored wrongly: the nearest picture of
a person is the one taken a moment before by the same camera, which says little. The rule is to
leave out matches of the query's own camera, and ``groups=`` of the metrics does that.

No set of such pictures comes with scikit-learn, so people are drawn here: hair, skin, shirt and
trousers, perhaps stripes or a bag, each in random colours. Each of five cameras has its own wall
and tint, and takes 4 pictures of every person, who stands elsewhere each time, in another light,
behind some noise and a random box. They all stand upright in the middle, so that a linear map of
the pixels serves; with photographs, leave ``X`` as images and give a pretrained ``module``.
"""

# %%
# The pictures
# ------------

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import FunctionTransformer

from sktriplet import TripletEmbedder
from sktriplet.display import NeighborsDisplay
from sktriplet.metrics import recall_at_k_score

start = perf_counter()
rng = np.random.default_rng(0)


def random_person():
    return {
        "colors": rng.uniform(0.05, 0.95, size=(4, 3)),
        "skin": np.array([0.9, 0.7, 0.55]) * rng.uniform(0.4, 1),
        "half_width": rng.integers(3, 6),
        "stripes": rng.choice([0, 0, 2, 3]),
        "bag": rng.random() < 0.5,
    }


def picture(person, wall, tint):
    hair, shirt, trousers, bag = person["colors"]
    half, x, y = person["half_width"], 8 + rng.integers(-2, 3), rng.integers(0, 4)
    image = np.full((32, 16, 3), wall)
    image[y : y + 3, x - 2 : x + 2] = hair
    image[y + 3 : y + 6, x - 2 : x + 2] = person["skin"]
    image[y + 6 : y + 16, x - half : x + half] = shirt
    if person["stripes"]:
        image[y + 6 : y + 16 : person["stripes"], x - half : x + half] = 1 - shirt
    for leg in (x - 3, x + 1):
        image[y + 16 : y + 28, leg : leg + 2] = trousers
    if person["bag"]:
        image[y + 9 : y + 15, x + half - 2 : x + half + 2] = bag
    top, left = rng.integers(0, 26), rng.integers(0, 10)
    image[top : top + 6, left : left + 6] = rng.uniform(size=3)
    image = image * tint * rng.uniform(0.7, 1.3) + rng.normal(scale=0.08, size=image.shape)
    return np.clip(image, 0, 1)


walls, tints = rng.uniform(0.2, 0.8, size=(5, 3)), rng.uniform(0.5, 1.2, size=(5, 3))
shots = [
    (picture(person, walls[camera], tints[camera]), number, camera)
    for number, person in enumerate(random_person() for _ in range(120))
    for camera in range(5)
    for _ in range(4)
]
images, person, camera = (np.array(column) for column in zip(*shots, strict=True))
X = images.reshape(len(images), -1)

# %%
# Who is it?
# ----------
# The models learn from 80 people as the cameras 0 to 3 see them. The other 40 people are searched
# for: among all pictures of these cameras, then without matches of the query's own camera, and
# then with queries from camera 4, which no model has seen. All of it once more with the mean
# picture of each camera taken out, for which nobody need be known by name.

learnt = (person < 80) & (camera < 4)
gallery = (person >= 80) & (camera < 4)
elsewhere = (person >= 80) & (camera == 4)
y, y_elsewhere = person[gallery], person[elsewhere]
models = {
    "pixels": FunctionTransformer(),
    "LDA": LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"),
    "TripletEmbedder": TripletEmbedder(hidden_layer_sizes=(), random_state=0),
}
means = np.array([X[camera == number].mean(axis=0) for number in range(5)])
found = {}
print("is the nearest one right?        any camera     another   a new one")
for title, rows in [("as taken", X), ("less their mean", X - means[camera])]:
    for name, model in models.items():
        model.fit(rows[learnt], person[learnt])
        reference, queries = model.transform(rows[gallery]), model.transform(rows[elsewhere])
        scores = [
            recall_at_k_score(reference, y),
            recall_at_k_score(reference, y, groups=camera[gallery]),
            recall_at_k_score(queries, y_elsewhere, reference=reference, reference_y=y),
        ]
        print(f"{title:16}{name:16}" + "".join(f"{score:12.3f}" for score in scores))
        index = NearestNeighbors(n_neighbors=8).fit(reference)
        found[title, name] = index.kneighbors(queries, return_distance=False)

# %%
# A picture
# ---------
# Six people, looked for with their pictures from the new camera.

figure = plt.figure(figsize=(13, 7.5), layout="constrained")
shown = [0, 20, 40, 60, 80, 100]
for part, title in zip(figure.subfigures(1, 2), ["as taken", "less their mean"], strict=True):
    rows = np.column_stack(
        [
            np.flatnonzero(elsewhere)[shown],
            np.flatnonzero(gallery)[found[title, "TripletEmbedder"][shown]],
        ]
    )
    NeighborsDisplay(images[rows], person[rows]).plot(ax=part.subplots())
    part.suptitle(f"TripletEmbedder on pictures {title}")
figure.savefig("reidentification.png", dpi=80)
print(f"\nA picture is in reidentification.png ({perf_counter() - start:.0f} s in all)")
