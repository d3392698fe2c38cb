"""
Pretrained networks: frozen layers and learning rates
=====================================================

A network that has been trained for one task is a good start for a similar one with few images. This
example trains a classifier on the digits 0 to 4, uses it as ``module`` of an embedder for the
digits 5 to 9, and compares frozen layers, a smaller learning rate for pretrained layers, and
training from scratch. :doc:`/pretrained` shows the same with networks of torchvision and timm.
"""

# %%
# Pretrain a network
# ------------------
# As for a downloaded network, the pretraining uses PyTorch only, and the network expects images
# that are normalized with the statistics of its training images.

import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.training import TripletNet

digits = load_digits()
images, y = (digits.images * 15).astype(np.uint8), digits.target
is_new = y >= 5
mean, std = images[~is_new].mean(), images[~is_new].std()


def make_backbone():
    layers = []
    for n_inputs, n_outputs, stride in ((1, 32, 1), (32, 64, 2), (64, 128, 2)):
        layers += [nn.Conv2d(n_inputs, n_outputs, 3, stride, padding=1)]
        layers += [nn.BatchNorm2d(n_outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


torch.manual_seed(0)
backbone = make_backbone()
classifier = nn.Sequential(backbone, nn.Linear(512, 5))
optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
X = torch.from_numpy((images[~is_new, None] - mean) / std).float()
labels = torch.from_numpy(y[~is_new])
for _ in range(12):
    for batch in torch.randperm(len(X)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier(X[batch]), labels[batch]).backward()
        optimizer.step()

# %%
# Embed other classes
# -------------------
# The module normalizes images as in pretraining, so the embedder must not (``standardize=False``).


class Normalized(nn.Module):
    def __init__(self, backbone, n_components=16):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(512, n_components)

    def forward(self, images):
        return self.head(self.backbone((images - mean) / std))


def make_embedder(module, **parameters):
    settings = {"standardize": False, "max_epochs": 8, "random_state": 0}
    return TripletEmbedder(16, module=module, **settings, **parameters)


frozen = Normalized(copy.deepcopy(backbone))
frozen.backbone.requires_grad_(False)
slow = TripletNet(optimizer__param_groups=[("backbone.backbone.*", {"lr": 2e-4})])
embedders = {
    "from scratch": make_embedder(Normalized(make_backbone())),
    "frozen": make_embedder(frozen),
    "smaller lr": make_embedder(Normalized(backbone), net=slow),
    "same lr": make_embedder(Normalized(backbone)),
}

# %%
# Compare the accuracy
# --------------------
# The accuracy of the nearest neighbor depends on the number of training images per class. Means of
# three training sets; all other images are test images.

n_images, n_sets = (2, 5, 20), 3
accuracies = {name: np.zeros((len(n_images), n_sets)) for name in embedders}
rng = np.random.default_rng(0)
for i, n_per_class in enumerate(n_images):
    for j in range(n_sets):
        train = np.concatenate(
            [rng.choice(np.flatnonzero(y == c), n_per_class, replace=False) for c in range(5, 10)]
        )
        test = np.setdiff1d(np.flatnonzero(is_new), train)
        for name, embedder in embedders.items():
            model = make_pipeline(embedder, KNeighborsClassifier(1)).fit(images[train], y[train])
            accuracies[name][i, j] = model.score(images[test], y[test])
print(f"{'images per class':18}" + "".join(f"{n:8}" for n in n_images))
for name, values in accuracies.items():
    print(f"{name:18}" + "".join(f"{value:8.3f}" for value in values.mean(axis=1)))

# %%
# Plot the accuracy
# -----------------

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, values in accuracies.items():
    ax.errorbar(n_images, values.mean(axis=1), values.std(axis=1), marker="o", label=name)
ax.set(xscale="log", xlabel="training images per class", ylabel="accuracy", xticks=n_images)
ax.set_xticklabels(n_images)
ax.minorticks_off()
ax.legend()
plt.show()
