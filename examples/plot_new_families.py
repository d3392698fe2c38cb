"""
Malware families, known and new
===============================

A sample comes in. It is of a known family, which has a name, or of none, which is news. The next
day the new family has a name and a few samples, and must be found from then on, without another
night of training. ``OpenSetClassifier`` does both: ``predict`` says "unknown" beyond its
threshold, and ``enroll`` adds families.

The samples are made up: 80 counts of calls to parts of a system. A family is a mix of 12
behaviours, each of which raises or lowers the logarithm of every count. Its samples differ in
size, and by which of 8 packers they were built, which changes counts more than the family does.
Counts are Poisson numbers around all that. There are 50 families of 60 samples. In logarithms all
this adds up, so that a linear map is right by construction: on real samples, search
``hidden_layer_sizes`` by family. And the new families are made of behaviours that the known ones
had; of others an embedder would have learned nothing.
"""

# %%
# The samples
# -----------
# 30 families are known from 40 samples each, 10 arrive after training, and 10 are never named.

from copy import deepcopy
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from sktriplet import OpenSetClassifier, TripletEmbedder
from sktriplet.display import DistanceDisplay, EmbeddingDisplay
from sktriplet.metrics import detection_identification_rate_score

start = perf_counter()
rng = np.random.default_rng(0)
family = np.repeat(np.arange(50), 60)
packer, size = rng.integers(8, size=3000), rng.normal(scale=0.5, size=(3000, 1))
families = rng.normal(scale=0.2, size=(50, 12)) @ rng.normal(size=(12, 80))
packers = rng.normal(size=(8, 80))
X = np.log1p(rng.poisson(np.exp(1 + families[family] + packers[packer] + size)))
y = np.array([f"family {number:02}" for number in family])
early = np.tile(np.arange(60) < 40, 50)
known, new, unnamed = family < 30, (family >= 30) & (family < 40), family >= 40

# %%
# Known or not?
# -------------
# Each model may name one stranger in twenty. Which part of the known does it find at that rate
# (detection and identification rate, DIR at FPIR)? And at the threshold that it has set itself,
# before any stranger came, which part of the known does it find, and of the strangers name?

models = {
    "scaled counts": StandardScaler(),
    "LDA": LinearDiscriminantAnalysis(),
    "TripletEmbedder": TripletEmbedder(random_state=0),
    "without hidden layers": TripletEmbedder(hidden_layer_sizes=(), random_state=0),
}
later = ~early | ~known
print(f"{'':24}at 5% of strangers   at the threshold")
print(f"{'':24}{'found':>18}{'found':>12}{'named':>10}")
classifiers = {}
for name, model in models.items():
    classifier = OpenSetClassifier(model, target_fpir=0.05).fit(X[known & early], y[known & early])
    identities, distances = classifier.identify(X[later])
    rate = detection_identification_rate_score(
        y[later], identities, distances, enrolled=classifier.classes_, target_fpir=0.05
    )
    named = classifier.predict(X[later])
    found = np.mean((named == y[later])[known[later]])
    alarms = np.mean((named != "unknown")[~known[later]])
    print(f"{name:24}{rate:18.3f}{found:12.3f}{alarms:10.3f}", flush=True)
    classifiers[name] = classifier

# %%
# The new families get their names
# --------------------------------
# A few samples of each are enrolled. Which part of the later ones is then found?

n_samples = [1, 2, 5, 10, 20, 40]
found_by_name = {name: [] for name in classifiers}
for name, classifier in classifiers.items():
    for n in n_samples:
        few = new & (np.arange(3000) % 60 < n)
        grown = deepcopy(classifier).enroll(X[few], y[few])
        found_by_name[name].append(grown.score(X[new & ~early], y[new & ~early]))
print(f"\nlater ones of new families found, by samples of each enrolled\n{'':24}", end="")
print("".join(f"{n:8}" for n in n_samples))
for name, shares in found_by_name.items():
    print(f"{name:24}" + "".join(f"{share:8.3f}" for share in shares))
alarms = np.mean(grown.predict(X[unnamed]) != "unknown")
print(f"of the families without a name, {alarms:.3f} are then named: more to mistake them for")

# %%
# A picture
# ---------

figure, axes = plt.subplots(1, 3, figsize=(17, 5), layout="constrained")
EmbeddingDisplay.from_estimator(grown.estimator_, X[new], y[new], ax=axes[0])
axes[0].set_title("families that came after training")
_, distances = classifier.identify(X[later])
DistanceDisplay.from_predictions(
    known[later], -distances, threshold=classifier.threshold_, ax=axes[1]
)
for text, meaning in zip(axes[1].get_legend().get_texts(), ["known", "stranger"], strict=False):
    text.set_text(f"{meaning}: {text.get_text().split(', ')[-1]}")
axes[1].set_title("distance to the nearest of the known")
for name, shares in found_by_name.items():
    axes[2].plot(n_samples, shares, marker="o", label=name)
axes[2].set(xscale="log", ylim=(0, 1), xlabel="samples enrolled of each new family")
axes[2].set_xticks(n_samples, n_samples)
axes[2].minorticks_off()
axes[2].set_title("later ones found")
axes[2].legend()
figure.savefig("new_families.png", dpi=80)
print(f"\nA picture is in new_families.png ({perf_counter() - start:.0f} s in all)")
