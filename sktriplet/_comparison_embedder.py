"""`ComparisonEmbedder`: an embedding learned from triplets instead of class labels."""

from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sktriplet._build import changed_params
from sktriplet._embedder import TripletEmbedder
from sktriplet._multi_input import has_several_inputs
from sktriplet._parameters import validate_parameters
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import TripletLoss
from sktriplet.training import TripletNet
from sktriplet.training._data import BatchLoader
from sktriplet.training._net import MIN_BATCHES

# Parameters of the embedder that have no effect.
NO_EFFECT = (
    *("early_stopping", "validation_fraction", "n_iter_no_change", "tol"),
    *("unlabeled", "warm_start"),
)


class ComparisonEmbedder(
    ClassNamePrefixFeaturesOutMixin, MetaEstimatorMixin, TransformerMixin, BaseEstimator
):
    """Learn an embedding from comparisons: a is more similar to p than to n.

    Comparisons take the place of class labels where there are none: preferences, clicks, or
    judgments of which of two samples is more similar to a third [1]_. A
    :class:`~sktriplet.TripletEmbedder` is trained with the triplet loss of the given triplets.
    There is no mining.

    `fit` and `score` take triplets of samples, as an array of shape ``(n_triplets, 3, ...)``. Given
    a table of samples and indices (n_triplets, 3), this is ``table[indices]``. A row of X is a
    triplet, so scikit-learn's tools for cross-validation and search split triplets. `transform`
    takes samples.

    Read more in the :doc:`user guide </supervision>`.

    Parameters
    ----------
    estimator : TripletEmbedder, default=None
        Embedder whose clone is trained. Its `batch_size` counts samples: with 128, a batch has 42
        triplets. Parameters that concern classes, such as `mining`, `nca_weight` and
        `samples_per_class`, and those of early stopping, must have their defaults. There is neither
        early stopping nor cross-fitting. None uses ``TripletEmbedder()``.

    Attributes
    ----------
    estimator_ : TripletEmbedder
        Fitted embedder. Its classes are the positions in a triplet: 0, 1 and 2.
    n_features_in_ : int
        Number of features seen in fit; for images, the product of `input_shape_`.
    input_shape_ : tuple of int
        Shape of a sample seen in fit.

    See Also
    --------
    TripletEmbedder : Learns from class labels.

    References
    ----------
    .. [1] Schultz and Joachims, "Learning a Distance Metric from Relative Comparisons", NeurIPS
       2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from sktriplet import ComparisonEmbedder, TripletEmbedder
    >>> rng = np.random.default_rng(0)
    >>> table = rng.normal(size=(100, 5))
    >>> indices = rng.integers(100, size=(500, 3))  # anchors, and two samples to compare
    >>> taste = table[indices, 0]  # only the first feature matters
    >>> is_wrong = abs(taste[:, 0] - taste[:, 1]) > abs(taste[:, 0] - taste[:, 2])
    >>> indices[is_wrong] = indices[is_wrong][:, [0, 2, 1]]  # the more similar one comes first
    >>> model = ComparisonEmbedder(TripletEmbedder(max_epochs=5, random_state=0))
    >>> bool(cross_val_score(model, table[indices], cv=3).mean() > 0.8)
    True
    >>> model.fit(table[indices]).transform(table).shape
    (100, 64)
    """

    _doc_link_module = "sktriplet"
    _doc_link_template = TripletEmbedder._doc_link_template

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"estimator": [TripletEmbedder, None]}

    def __init__(self, estimator: TripletEmbedder | None = None):
        self.estimator = estimator

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the embedding.

        Parameters
        ----------
        X : array-like of shape (n_triplets, 3, n_features), or images
            Triplets of an anchor, a sample that is more similar to it, and one that is less
            similar.
        y : None
            Ignored, present for compatibility with scikit-learn.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter has an invalid value or no effect.
        ValueError
            If X is invalid.
        DivergenceError
            If the loss or the embeddings become NaN or infinite.
        """
        validate_parameters(self, **self.get_params(deep=False))
        samples, n_triplets = _flatten(X, min_triplets=2)
        estimator = TripletEmbedder() if self.estimator is None else clone(self.estimator)
        _check_settings(estimator)
        estimator.set_params(net=_comparison_net(estimator.net))
        estimator.fit(samples, np.tile(np.arange(3), n_triplets))
        self.estimator_ = estimator
        self.n_features_in_ = estimator.n_features_in_
        self.input_shape_ = estimator.input_shape_
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NoReturn:
        """Raise an error, because `fit` takes triplets, and `transform` takes samples.

        Parameters
        ----------
        X : array-like
            Not used.
        y : None
            Not used.

        Raises
        ------
        TypeError
            Always, and before training.
        """
        raise TypeError(
            f"{type(self).__name__} has no fit_transform, because fit takes triplets, and "
            "transform takes samples: call fit(triplets).transform(samples). In a Pipeline, it can "
            "be the last step only."
        )

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Samples, not triplets.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, n_components)
            Embeddings in single precision.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is invalid or not consistent with the training data.
        """
        check_is_fitted(self)
        shape = getattr(X, "shape", ())
        if len(shape) == len(self.input_shape_) + 2:
            raise ValueError(
                "transform takes samples, not triplets. Got an array of shape "
                f"{tuple(shape)}: pass the table of samples."
            )
        return self.estimator_.transform(X)

    def score(self, X: Any, y: Any = None) -> float:
        """Compute the fraction of the triplets whose distances have the right order.

        Parameters
        ----------
        X : array-like of shape (n_triplets, 3, n_features), or images
            Triplets, as in `fit`.
        y : None
            Ignored, present for compatibility with scikit-learn.

        Returns
        -------
        score : float
            Fraction of the triplets whose first sample is nearer to the second one than to the
            third one. Equal distances count as wrong; random embeddings have a score of 0.5.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is invalid or not consistent with the training data.
        """
        check_is_fitted(self)
        samples, n_triplets = _flatten(X, min_triplets=1)
        embeddings = np.asarray(self.estimator_.transform(samples)).reshape(n_triplets, 3, -1)
        to_first = np.linalg.norm(embeddings[:, 1:] - embeddings[:, :1], axis=2)
        return float((to_first[:, 0] < to_first[:, 1]).mean())

    @property
    def _n_features_out(self) -> int:
        return self.estimator_._n_features_out

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _flatten(X: Any, *, min_triplets: int) -> tuple[NDArray, int]:
    """Return the samples of triplets, (3 * n_triplets, ...), and the number of triplets."""
    triplets = np.asarray(X)
    if triplets.ndim < 3 or triplets.shape[1] != 3:
        hint = ""
        if triplets.ndim == 2 and triplets.shape[1] == 3:
            hint = " If it holds indices of samples, pass table[X]."
        elif has_several_inputs(X):
            hint = f" A dict with the keys {list(X)[:5]} cannot hold triplets."
        raise ValueError(
            "X must hold triplets, as an array of shape (n_triplets, 3, n_features). Got an "
            f"array of shape {triplets.shape}.{hint}"
        )
    if len(triplets) < min_triplets:
        raise ValueError(
            f"X must hold at least {min_triplets} triplet(s). Got {len(triplets)}: X has shape "
            f"{triplets.shape}."
        )
    return triplets.reshape(-1, *triplets.shape[2:]), len(triplets)


def _check_settings(estimator: TripletEmbedder) -> None:
    """Check that settings have an effect; the embedder checks those of the criterion."""
    for name, value in changed_params(estimator).items():
        if name in NO_EFFECT and value is not False:
            raise InvalidParameterError(
                f"The {name!r} parameter of TripletEmbedder has no effect in ComparisonEmbedder. "
                f"Got {value!r}; leave it at its default."
            )


def _comparison_net(template: TripletNet | None) -> TripletNet:
    """Return a net that trains on given triplets, with the other settings of a template."""
    net = TripletNet() if template is None else template
    default = TripletNet()
    if net.iterator_train is not default.iterator_train:
        raise InvalidParameterError(
            "The 'net' parameter of TripletEmbedder must not set iterator_train in "
            f"ComparisonEmbedder, whose batches consist of triplets. Got {net.iterator_train!r}."
        )
    criterion = net.criterion
    return net.set_params(
        criterion=ComparisonLoss if criterion is default.criterion else criterion,
        iterator_train=ComparisonLoader,
        iterator_train__min_batches=net.min_batches or MIN_BATCHES,
    )


class ComparisonLoss(nn.Module):
    """Triplet loss of batches of consecutive triplets.

    Parameters are those of :class:`~sktriplet.losses.TripletLoss`.
    """

    def __init__(
        self,
        margin: float = 0.5,
        *,
        metric: Any = "sqeuclidean",
        loss: Any = "hinge",
        reduction: str = "mean",
    ):
        super().__init__()
        self.margin = margin
        self.triplet_loss = TripletLoss(margin, metric=metric, loss=loss, reduction=reduction)

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Those of the triplet loss."""
        return self.triplet_loss.statistics

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of triplets in rows (0, 1, 2), (3, 4, 5), ... of a batch.

        The labels are their positions in a triplet, which are known.
        """
        anchors = torch.arange(0, len(embeddings), 3, device=embeddings.device)
        return self.triplet_loss(embeddings, triplets=(anchors, anchors + 1, anchors + 2))


class ComparisonLoader(BatchLoader):
    """Loader of batches of triplets, which are consecutive samples of the dataset.

    Each triplet is drawn once per epoch, or more often if there are too few for `min_batches`. They
    are drawn from torch's global generator, which the net seeds in each epoch.
    """

    def __init__(self, dataset: Any, batch_size: int, *, min_batches: int = 1):
        super().__init__(dataset, batch_size)
        self.n_triplets = len(dataset) // 3
        self.triplets_per_batch = min(batch_size // 3, self.n_triplets)
        self.n_batches = max(-(-self.n_triplets // self.triplets_per_batch), min_batches)

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n_drawn = self.n_batches * self.triplets_per_batch
        n_permutations = -(-n_drawn // self.n_triplets)
        order = torch.cat([torch.randperm(self.n_triplets) for _ in range(n_permutations)])
        for drawn in order[:n_drawn].split(self.triplets_per_batch):
            rows = 3 * drawn[:, None] + torch.arange(3)
            yield self.dataset[rows.flatten().numpy()]
