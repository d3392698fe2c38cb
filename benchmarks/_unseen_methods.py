"""Methods of the benchmark of unseen classes.

All networks are trained by the same net of the package: the same initial weights, balanced batches,
steps, schedule and optimizer. Only the criterion differs.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _unseen_data import Images
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import normalize
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.networks import Whitening
from sktriplet.training import TripletNet

N_COMPONENTS = 64
# Settings of all networks, which are those of the embedder's defaults.
COMMON: dict[str, Any] = {
    "n_components": N_COMPONENTS,
    "max_epochs": 16,
    "min_batches": 45,
    "batch_size": 128,
    "samples_per_class": 8,
    "augment": "affine",
}

Embed = Callable[[NDArray], NDArray]


class CrossEntropy(nn.Module):
    """A linear classifier on the embeddings, which are not normalized."""

    def __init__(self, n_classes: int, smoothing: float):
        super().__init__()
        self.classifier = nn.Linear(N_COMPONENTS, n_classes)
        self.loss = nn.CrossEntropyLoss(label_smoothing=smoothing)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss(self.classifier(embeddings), labels)


class Mined(nn.Module):
    """A loss of pytorch-metric-learning with a miner."""

    def __init__(self, loss: nn.Module, miner: nn.Module):
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


def semi_hard(n_classes: int, margin: float) -> nn.Module:
    from pytorch_metric_learning import distances, losses, miners

    distance = distances.LpDistance(p=2, power=2, normalize_embeddings=False)
    miner = miners.TripletMarginMiner(margin, type_of_triplets="semihard", distance=distance)
    return Mined(losses.TripletMarginLoss(margin, distance=distance), miner)


def multi_similarity(n_classes: int, beta: float) -> nn.Module:
    from pytorch_metric_learning import losses, miners

    return Mined(losses.MultiSimilarityLoss(beta=beta), miners.MultiSimilarityMiner())


def supcon(n_classes: int, temperature: float) -> nn.Module:
    from pytorch_metric_learning import losses

    return losses.SupConLoss(temperature)


def proxy_anchor(n_classes: int, alpha: float) -> nn.Module:
    from pytorch_metric_learning import losses

    return losses.ProxyAnchorLoss(n_classes, N_COMPONENTS, alpha=alpha)


def arcface(n_classes: int, scale: float) -> nn.Module:
    from pytorch_metric_learning import losses

    return losses.ArcFaceLoss(n_classes, N_COMPONENTS, scale=scale)


def normalized_softmax(n_classes: int, temperature: float) -> nn.Module:
    from pytorch_metric_learning import losses

    return losses.NormalizedSoftmaxLoss(n_classes, N_COMPONENTS, temperature)


# Criterion, and the parameter that is tuned with its candidates, the usual one first.
LOSSES: dict[str, tuple[Callable[..., nn.Module], str, tuple[float, ...]]] = {
    "semi-hard triplets, PML": (semi_hard, "margin", (0.2, 0.1, 0.5)),
    "multi-similarity": (multi_similarity, "beta", (50, 20, 10)),
    "SupCon": (supcon, "temperature", (0.1, 0.05, 0.2)),
    "ProxyAnchor": (proxy_anchor, "alpha", (32, 16, 8)),
    "ArcFace": (arcface, "scale", (32, 16, 8)),
    "normalized softmax": (normalized_softmax, "temperature", (0.05, 0.1, 0.2)),
    "cross-entropy": (CrossEntropy, "smoothing", (0.0, 0.1, 0.2)),
}
# Weights of losses, and the factor of 1, 10 and 100 by which their learning rate is best larger.
PROXIES = {"ProxyAnchor": ("proxies", 1), "ArcFace": ("W", 10), "normalized softmax": ("W", 100)}
DEFAULTS, TUNED = OURS = ("TripletEmbedder, defaults", "TripletEmbedder, tuned")
LEARNING_RATES = (2e-3, 5e-3, 1e-2)
MARGINS = (0.5, 0.25, 1.0)
BASELINES: dict[str, list[dict[str, Any]]] = {
    "pixels": [{}],
    "PCA": [{"n_components": n} for n in (16, 32, 64, 128, 256)],
    "PCA and LDA": [
        {"n_components": n, "n_discriminants": m} for n in (32, 64, 128, 256) for m in (16, 32, 64)
    ],
}


def first_candidates(method: str) -> list[dict[str, Any]]:
    """Return the settings that are compared first: the learning rates of networks."""
    if method in BASELINES:
        return BASELINES[method]
    if method == DEFAULTS:  # Named, so that results of other defaults are other runs.
        names = ("lr", "margin", "nca_weight")
        parameters = inspect.signature(TripletEmbedder).parameters
        return [COMMON | {name: parameters[name].default for name in names}]
    name, values = tuned_parameter(method)
    return [{**COMMON, "lr": lr, name: values[0]} for lr in LEARNING_RATES]


def second_candidates(method: str, best: dict[str, Any]) -> list[dict[str, Any]]:
    """Return those that are compared next: other values of the loss's parameter."""
    if method in BASELINES or method == DEFAULTS:
        return []
    name, values = tuned_parameter(method)
    return [best | {name: value} for value in values[1:]]


def tuned_parameter(method: str) -> tuple[str, tuple[float, ...]]:
    """Return the parameter of a loss that is tuned, and its values."""
    return ("margin", MARGINS) if method == TUNED else LOSSES[method][1:]


def criterion(method: str, n_classes: int, value: float) -> nn.Module:
    """Return the loss of a method."""
    return LOSSES[method][0](n_classes, value)


def fit(train: Images, method: str, seed: int, settings: dict[str, Any]) -> Embed:
    """Fit a method; the settings of networks are those of the embedder and of the loss."""
    if method in BASELINES:
        return fit_linear(train, method, settings)
    settings = {"precision": "bfloat16", "random_state": seed, "device": "cpu"} | settings
    min_batches = settings.pop("min_batches")
    if method in OURS:
        net = TripletNet(min_batches=min_batches)
        embedder = TripletEmbedder(net=net, **settings)
        return embedder.fit(train.images, train.classes).transform
    lr, value = settings["lr"], settings.pop(LOSSES[method][1])
    net = TripletNet(
        min_batches=min_batches,
        criterion=criterion,
        criterion__method=method,
        criterion__n_classes=len(np.unique(train.classes)),
        criterion__value=value,
    )
    if method in PROXIES:
        name, factor = PROXIES[method]
        net.set_params(optimizer__param_groups=[(name, {"lr": lr * factor})])
    is_unit = method != "cross-entropy"
    embedder = TripletEmbedder(normalize=is_unit, whiten=False, net=net, **settings)
    embedder.fit(train.images, train.classes)
    return lambda X: normalize(embedder.transform(X))


def whiten(embed: Embed, train: Images) -> Embed:
    """Whiten embeddings as the embedder does."""
    embeddings = torch.from_numpy(embed(train.images))
    whitening = Whitening(embeddings.shape[1])
    whitening.update(embeddings)

    def embed_whitened(images: NDArray) -> NDArray:
        return normalize(whitening(torch.from_numpy(embed(images))).numpy())

    return embed_whitened


def flat(images: NDArray) -> NDArray[np.float32]:
    """Return images as feature vectors."""
    return images.reshape(len(images), -1).astype(np.float32)


def fit_linear(train: Images, method: str, settings: dict[str, Any]) -> Embed:
    """Fit a baseline without a network."""
    if method == "pixels":
        return flat
    rank = min(len(np.unique(train.classes)) - 1, settings["n_components"])
    steps: list[Any] = [PCA(settings["n_components"], random_state=0)]
    if method == "PCA and LDA":
        steps.append(
            LinearDiscriminantAnalysis(n_components=min(settings["n_discriminants"], rank))
        )
    pipeline = make_pipeline(*steps).fit(flat(train.images), train.classes)
    return lambda X: pipeline.transform(flat(X))


METHODS = [*BASELINES, *LOSSES, *OURS]
