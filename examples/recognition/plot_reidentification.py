"""
Person re-identification across cameras
=======================================

Person re-identification searches for a person in the images of other cameras. It is difficult
because images from the same camera are similar, regardless of the person. The evaluation must take
this into account: the nearest neighbor of a query is often an image taken by the same camera
shortly before, which is not informative. The ``groups`` parameter of the retrieval metrics excludes
matches from the camera of the query.

We generate synthetic images of people, defined by hair, skin, shirt and trousers with random
colors, and optionally stripes or a bag. Each of five cameras has a background and a color cast, and
takes four images of each person, with random position, lighting, noise and an occluding box. The
people are upright and centered, so a linear map of the pixels is sufficient; for photographs, do
not flatten the images, and use a pretrained ``module``.
"""

# %%
# Generate images
# ---------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import FunctionTransformer

from sktriplet import Pairs, PairVerifier, TripletEmbedder
from sktriplet.display import NeighborsDisplay
from sktriplet.metrics import recall_at_k_score

rng = np.random.default_rng(0)


def random_person():
    """Draw the appearance of a person."""
    return {
        "colors": rng.uniform(0.05, 0.95, size=(4, 3)),
        "skin": np.array([0.9, 0.7, 0.55]) * rng.uniform(0.4, 1),
        "half_width": rng.integers(3, 6),
        "stripes": rng.choice([0, 0, 2, 3]),
        "bag": rng.random() < 0.5,
    }


def photograph(person, background, color_cast):
    """Draw an image with random position, lighting, noise and occlusion."""
    hair, shirt, trousers, bag = person["colors"]
    half, x, y = person["half_width"], 8 + rng.integers(-2, 3), rng.integers(0, 4)
    image = np.full((32, 16, 3), background)
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
    image = image * color_cast * rng.uniform(0.7, 1.3) + rng.normal(scale=0.08, size=image.shape)
    return np.clip(image, 0, 1)


backgrounds, color_casts = rng.uniform(0.2, 0.8, size=(5, 3)), rng.uniform(0.5, 1.2, size=(5, 3))
samples = [
    (photograph(person, backgrounds[camera], color_casts[camera]), number, camera)
    for number, person in enumerate(random_person() for _ in range(120))
    for camera in range(5)
    for _ in range(4)
]
images, person, camera = (np.array(values) for values in zip(*samples, strict=True))
X = images.reshape(len(images), -1)

# %%
# Compute the recall
# ------------------
# The models are trained on images of 80 people from cameras 0 to 3. We compute the recall at 1 on
# the other 40 people in three ways: among all images of these cameras, among the images of other
# cameras only, and with queries from camera 4, which is not used in training. Then we repeat this
# after subtracting the mean image of each camera, which requires no labels of people.

train = (person < 80) & (camera < 4)
gallery = (person >= 80) & (camera < 4)
new_camera = (person >= 80) & (camera == 4)
models = {
    "pixels": FunctionTransformer(),
    "LDA": LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"),
    "TripletEmbedder": TripletEmbedder(hidden_layer_sizes=(), random_state=0),
}
camera_means = np.array([X[camera == number].mean(axis=0) for number in range(5)])
inputs = {"original images": X, "centered by camera": X - camera_means[camera]}
neighbors = {}
print(f"{'recall at 1':36}{'all cameras':>14}{'others':>9}{'new':>9}")
for input_name, features in inputs.items():
    for model_name, model in models.items():
        model.fit(features[train], person[train])
        reference, queries = (model.transform(features[mask]) for mask in (gallery, new_camera))
        y, y_queries = person[gallery], person[new_camera]
        all_cameras = recall_at_k_score(reference, y)
        others = recall_at_k_score(reference, y, groups=camera[gallery])
        new = recall_at_k_score(queries, y_queries, reference=reference, reference_y=y)
        print(f"{input_name:20}{model_name:16}{all_cameras:14.3f}{others:9.3f}{new:9.3f}")
        search = NearestNeighbors(n_neighbors=8).fit(reference)
        neighbors[input_name, model_name] = search.kneighbors(queries, return_distance=False)

# %%
# Decide whether two images show the same person
# ----------------------------------------------
# ``PairVerifier`` sets a threshold for pairs of images. With cameras as ``groups``, two images of
# one person by the same camera are not used as a pair, because they are easier than those that
# matter. Without ``cv``, folds would hold out cameras; we hold out people instead.

centered = inputs["centered by camera"]
folds = list(GroupKFold(5).split(centered[train], groups=person[train]))
verifier = PairVerifier(models["TripletEmbedder"], target_fpr=0.01, cv=folds)
verifier.fit(centered[train], person[train], groups=camera[train])
print(f"\nfalse negative rate on held-out people: {verifier.false_negative_rate_:.3f}")
rows, columns = np.nonzero(np.ones((new_camera.sum(), gallery.sum())))
pairs = Pairs(centered[new_camera], centered[gallery], indices=np.column_stack([rows, columns]))
same = person[new_camera][rows] == person[gallery][columns]
accepted = verifier.predict(pairs)
print(f"false negative rate of the new camera:  {(~accepted[same]).mean():.3f}")
print(f"false positive rate of the new camera:  {accepted[~same].mean():.3f}")

# %%
# Plot queries and their neighbors
# --------------------------------
# Queries of six people from the new camera.

fig = plt.figure(figsize=(13, 7.5), layout="constrained")
selected = [0, 20, 40, 60, 80, 100]
for panel, input_name in zip(fig.subfigures(1, 2), inputs, strict=True):
    query_indices = np.flatnonzero(new_camera)[selected]
    neighbor_indices = np.flatnonzero(gallery)[neighbors[input_name, "TripletEmbedder"][selected]]
    indices = np.column_stack([query_indices, neighbor_indices])
    NeighborsDisplay(images[indices], person[indices]).plot(ax=panel.subplots())
    panel.suptitle(f"TripletEmbedder, {input_name}")
plt.show()
