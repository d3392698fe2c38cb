"""Data, networks, and methods of the image benchmarks."""

import gzip
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn
from torch.nn import functional as F

from sktriplet import TripletEmbedder
from sktriplet.augmentation import AUGMENTATIONS
from sktriplet.networks import ConvNet
from sktriplet.networks._embedding_network import ChannelsFirst, EmbeddingNetwork, Standardizer
from sktriplet.training._data import as_tensor

DEBIAN = Path("/usr/share/datasets/fashion-mnist")

N_COMPONENTS = 32
BATCH, PER_CLASS = 128, 8

Embed = Callable[[NDArray], NDArray]


@dataclass
class Images:
    """Training and test images."""

    train: NDArray
    train_labels: NDArray
    test: NDArray
    test_labels: NDArray

    def first(self, n_train: int, n_test: int) -> "Images":
        """Return the first images only."""
        train, test = slice(n_train), slice(n_test)
        return Images(
            self.train[train], self.train_labels[train], self.test[test], self.test_labels[test]
        )


@dataclass
class Fitted:
    """A fitted method; `classify` is None without a classifier."""

    embed: Embed
    classify: Embed | None = None


def load_fashion_mnist() -> Images:
    """Return the 60,000 training and 10,000 test images, from Debian's package or OpenML."""
    if DEBIAN.exists():

        def read(name: str, offset: int) -> NDArray:
            with gzip.open(DEBIAN / f"{name}-ubyte.gz") as file:
                return np.frombuffer(file.read(), np.uint8, offset=offset)

        images = [read(f"{part}-images-idx3", 16) for part in ("train", "t10k")]
        labels = [read(f"{part}-labels-idx1", 8) for part in ("train", "t10k")]
        train, test = (part.reshape(-1, 28, 28) for part in images)
        return Images(train, labels[0], test, labels[1])
    X, y = fetch_openml("Fashion-MNIST", version=1, return_X_y=True, as_frame=False)
    X, y = X.astype(np.uint8).reshape(-1, 28, 28), y.astype(np.uint8)
    return Images(X[:60_000], y[:60_000], X[60_000:], y[60_000:])


class LinearMap(nn.Module):
    """A linear layer on the pixels."""

    def __init__(self, input_shape: tuple[int, ...], n_components: int):
        super().__init__()
        self.layer = nn.Linear(math.prod(input_shape), n_components)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layer(X.flatten(1))


NETWORKS = {"ConvNet": ConvNet, "linear": LinearMap}


# Methods: images, seed, epochs, and settings -> fitted.


def flat(images: NDArray) -> NDArray[np.float32]:
    """Return images as feature vectors."""
    return images.reshape(len(images), -1).astype(np.float32)


def raw_pixels(images: Images, seed: int, epochs: int) -> Fitted:
    """Use the pixels as features."""
    return Fitted(flat)


def pca(images: Images, seed: int, epochs: int) -> Fitted:
    """Project onto as many principal components as the networks have outputs."""
    fitted = PCA(N_COMPONENTS, random_state=seed).fit(flat(images.train))
    return Fitted(lambda X: fitted.transform(flat(X)))


def lda(images: Images, seed: int, epochs: int) -> Fitted:
    """Project onto all discriminants, one less than there are classes."""
    fitted = LinearDiscriminantAnalysis().fit(flat(images.train), images.train_labels)
    return Fitted(lambda X: fitted.transform(flat(X)))


def ours(
    images: Images,
    seed: int,
    epochs: int,
    *,
    lr: float,
    augment: str | None,
    precision: str = "bfloat16",
    network: str = "ConvNet",
    **settings: Any,
) -> Fitted:
    """Fit a `TripletEmbedder`."""
    embedder = TripletEmbedder(
        N_COMPONENTS,
        module="auto" if network == "ConvNet" else NETWORKS[network],
        batch_size=BATCH,
        samples_per_class=PER_CLASS,
        max_epochs=epochs,
        lr=lr,
        augment=augment,
        precision=precision,
        random_state=seed,
        device="cpu",
        **settings,
    )
    return Fitted(embedder.fit(images.train, images.train_labels).transform)


def network_of(
    images: Images,
    augment: str | None,
    *,
    normalize: bool,
    precision: str = "bfloat16",
    network: str = "ConvNet",
) -> EmbeddingNetwork:
    """Return the network of `ours`, for another training loop."""
    return EmbeddingNetwork(
        NETWORKS[network]((1, 28, 28), N_COMPONENTS),
        input_layout=ChannelsFirst((1, 28, 28)),
        augment=AUGMENTATIONS[augment] if augment else None,
        scaler=Standardizer(images.train.mean(), images.train.std()),
        normalize=normalize,
        precision=precision,
    )


def train(
    network: nn.Module,
    images: Images,
    batches: Callable[[], Iterator[NDArray]],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    epochs: int,
    lr: float,
) -> None:
    """Train in a plain PyTorch loop."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2, fused=True)
    n_steps = epochs * math.ceil(len(images.train) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * min(step / n_steps, 1))) / 2
    )
    labels = images.train_labels.astype(np.int64)
    for _ in range(epochs):
        for batch in batches():
            optimizer.zero_grad()
            loss_of(as_tensor(images.train[batch]), as_tensor(labels[batch])).backward()
            optimizer.step()
            schedule.step()
    network.eval()


def predict(network: Callable, X: NDArray) -> NDArray:
    """Pass images through a network in batches."""
    with torch.inference_mode():
        parts = [network(as_tensor(X[i : i + 2000])).numpy() for i in range(0, len(X), 2000)]
    return np.concatenate(parts)


def cross_entropy(
    images: Images,
    seed: int,
    epochs: int,
    *,
    lr: float,
    augment: str | None,
    smoothing: float = 0,
    network: str = "ConvNet",
) -> Fitted:
    """Train a linear classifier on the network; use the outputs of both."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    backbone = network_of(images, augment, normalize=False, network=network)
    classes, codes = np.unique(images.train_labels, return_inverse=True)
    classifier = nn.Linear(N_COMPONENTS, len(classes))
    images = Images(images.train, codes, images.test, images.test_labels)

    def shuffled() -> Iterator[NDArray]:
        order = rng.permutation(len(codes))
        return (order[i : i + BATCH] for i in range(0, len(order), BATCH))

    def loss_of(X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(classifier(backbone(X)), y, label_smoothing=smoothing)

    train(nn.Sequential(backbone, classifier), images, shuffled, loss_of, epochs, lr)
    return Fitted(
        lambda X: predict(lambda part: F.normalize(backbone(part)), X),
        lambda X: classes[predict(lambda part: classifier(backbone(part)), X).argmax(axis=1)],
    )


def pml(
    images: Images,
    seed: int,
    epochs: int,
    *,
    lr: float,
    augment: str | None,
    margin: float,
    network: str = "ConvNet",
) -> Fitted:
    """Train with the sampler, semi-hard miner and triplet loss of pytorch-metric-learning."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner
    from pytorch_metric_learning.samplers import MPerClassSampler

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # The sampler uses it.
    backbone = network_of(images, augment, normalize=True, network=network)
    distance = LpDistance(p=2, power=2, normalize_embeddings=False)
    miner = TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=distance)
    loss = TripletMarginLoss(margin=margin, distance=distance)
    # The sampler needs batches of at least 5 classes x 8 samples; larger ones fill the batch.
    n_classes = len(np.unique(images.train_labels))
    sampler = MPerClassSampler(
        images.train_labels,
        max(PER_CLASS, BATCH // n_classes),
        length_before_new_iter=len(images.train),
    )

    def balanced() -> Iterator[NDArray]:
        order = np.fromiter(sampler, np.int64)
        return (order[i : i + BATCH] for i in range(0, len(order), BATCH))

    def loss_of(X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        embeddings = backbone(X)
        return loss(embeddings, y, miner(embeddings, y))

    train(backbone, images, balanced, loss_of, epochs, lr)
    return Fitted(lambda X: predict(backbone, X))


METHODS: dict[str, Callable[..., Fitted]] = {
    "raw pixels": raw_pixels,
    "PCA": pca,
    "LDA": lda,
    "cross-entropy": cross_entropy,
    "PML": pml,
    "ours": ours,
}
