"""X and y of an embedder's fit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sktriplet._classes import encode_classes, validate_class_labels
from sktriplet._lazy_samples import LazySamples
from sktriplet._multi_input import AnyPreprocessor, make_preprocessor, wrap_datasets


@dataclass
class TrainingData:
    """Validated training data."""

    X: Any  # encoded tables in their own dtype, others as float32, uint8 or int64
    labels: NDArray[np.int64]  # positions in classes, -1 if unlabeled
    classes: NDArray
    preprocessor: AnyPreprocessor  # has no statistics yet


def validate_training_data(
    embedder: Any,
    X: Any,
    y: Any,
    *,
    fitted: AnyPreprocessor | None = None,
    is_chunk: bool = False,
) -> TrainingData:
    """Validate X and y and encode the labels. The embedder is not changed.

    Samples with the embedder's ``unlabeled`` label have no class. X must be consistent with a
    `fitted` preprocessor. A chunk may hold no triplets.

    Raises
    ------
    TypeError
        If X is sparse and holds images.
    ValueError
        If X is neither a finite table nor images, if y does not hold class labels, or if no
        triplet exists.
    """
    owner = type(embedder).__name__
    if y is None and isinstance(X, Dataset | LazySamples):
        raise ValueError(
            f"{owner} requires y to be passed, but the target y is None. Labels in the items of a "
            "dataset are not used: pass those of all samples as an array, which torchvision's "
            "datasets have as targets."
        )
    y, is_labeled = validate_class_labels(y, owner, embedder.unlabeled)
    X = wrap_datasets(X)
    preprocessor = make_preprocessor(embedder, X, fitted)
    min_samples = 1 if is_chunk else 2
    X = preprocessor.encode_training(X, embedder, n_labels=len(y), min_samples=min_samples)
    classes, labels = encode_classes(y, is_labeled, embedder, is_chunk=is_chunk)
    return TrainingData(X, labels, classes, preprocessor)
