"""
Verification and clustering of letters never seen
=================================================

An embedder is trained on the letters A to R and then asked about S to Z: are two of them the
same, and how many kinds are there? Cross-validation by class chooses its hidden layers,
``PairVerifier`` a threshold, and the threshold cuts a clustering. The letters are drawn, turned,
stretched and moved, in the fonts that come with matplotlib.

For faces, where there is a network to fetch them from, take
``X, y = fetch_olivetti_faces(return_X_y=True)`` or
``fetch_lfw_people(min_faces_per_person=20, return_X_y=True)`` of ``sklearn.datasets``, and some of
the people as ``known``, such as ``y < 30`` of the 40 of Olivetti. This has not been run: figures
and the best settings will be others.
"""

# %%
# The letters
# -----------

from pathlib import Path
from time import perf_counter

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

start = perf_counter()
rng = np.random.default_rng(0)
styles = [
    f"{family}{style}.ttf"
    for family in ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
    for style in ("", "-Bold")
] + [f"STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic", "BolIta")]
folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
fonts = [ImageFont.truetype(str(folder / style), 20) for style in styles]


def picture(letter):
    page = Image.new("L", (32, 32))
    font = fonts[rng.integers(len(fonts))]
    ImageDraw.Draw(page).text((16, 16), letter, fill=255, font=font, anchor="mm")
    angle, size = rng.normal(scale=0.1), rng.uniform(1.2, 1.5, size=2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * size
    moved = 15.5 - turn @ (7.5 + rng.normal(scale=0.4, size=2))
    image = affine_transform(np.asarray(page) / 255, turn, moved, (16, 16), order=1)
    return image * rng.uniform(0.6, 1) + rng.normal(scale=0.05, size=(16, 16))


y = np.repeat(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 80)
images = np.array([picture(letter) for letter in y])
X = images.reshape(len(images), -1)

# %%
# Which network?
# --------------
# With rows held out the letters are known, and hidden layers win. With letters held out it
# is the linear map, and this is what we need to know. One network and half of the default's epochs
# are enough to see that.

known = y < "S"
grid = {"hidden_layer_sizes": [(256, 128), ()]}
print("mean average precision at R of the letters A to R")
for held_out, folds in [("rows", StratifiedKFold(3)), ("letters", GroupKFold(3))]:
    groups = {"groups": y[known]} if held_out == "letters" else {}
    search = GridSearchCV(
        TripletEmbedder(max_epochs=8, n_members=1, random_state=0),
        grid,
        scoring=mean_average_precision_at_r_scorer,
        cv=folds,
    ).fit(X[known], y[known], **groups)
    scores = zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True)
    for parameters, score in scores:
        print(f"  {held_out:7} held out, {parameters!s:36} {score:.3f}")
print(f"chosen for letters never seen: {search.best_params_} ({perf_counter() - start:.0f} s)\n")

# %%
# Are these two the same?
# -----------------------
# The threshold is set on letters from A to R that the embedder has not seen, and used on the
# others.

verifier = PairVerifier(search.best_estimator_).fit(X[known], y[known])
left, right = np.triu_indices(np.sum(~known), k=1)
some = np.random.default_rng(0).permutation(len(left))[:20_000]
left, right = left[some], right[some]
pairs = np.stack([X[~known][left], X[~known][right]], axis=1)
same = y[~known][left] == y[~known][right]
accepted = verifier.predict(pairs)
low, high = verifier.false_positive_rate_interval_
print(f"threshold {verifier.threshold_:.3f}")
print(f"  different pairs accepted: {accepted[~same].mean():.3f}, promised {low:.3f} to {high:.3f}")
low, high = verifier.false_negative_rate_interval_
print(
    f"  same pairs rejected:      {(~accepted[same]).mean():.3f}, promised {low:.3f} to {high:.3f}"
)

# %%
# How many kinds are there?
# -------------------------
# Clusters are merged as long as their mean distance is within the threshold. Nobody says that
# there are eight kinds.

embeddings = verifier.estimator_.transform(X[~known])
clusters = AgglomerativeClustering(
    n_clusters=None, distance_threshold=verifier.threshold_, linkage="average"
).fit_predict(embeddings)
large = np.sum(np.bincount(clusters) >= 10)
print(f"\n{large} clusters of 10 rows or more, and {clusters.max() + 1 - large} smaller")
print(f"  adjusted Rand index {adjusted_rand_score(y[~known], clusters):.3f}")

# %%
# A picture
# ---------
# Curves come from scikit-learn: the decision function is minus the distance.

figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
EmbeddingDisplay.from_predictions(embeddings, y[~known], ax=axes[0])
axes[0].set_title("letters never seen")
DistanceDisplay.from_estimator(verifier, pairs, same, ax=axes[1])
axes[1].set_title("are these two the same?")
RocCurveDisplay.from_predictions(
    same, verifier.decision_function(pairs), name="learned on A to R", ax=axes[2]
)
later = X[~known]
RocCurveDisplay.from_predictions(
    same, -np.linalg.norm(later[left] - later[right], axis=1), name="pixels", ax=axes[2]
)
figure.savefig("unseen_classes.png", dpi=80)
print(f"\nA picture is in unseen_classes.png ({perf_counter() - start:.0f} s in all)")
