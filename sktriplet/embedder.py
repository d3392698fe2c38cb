"""`TripletEmbedder`: the scikit-learn transformer."""

import copy
import inspect
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sktriplet.callbacks import CallbackSupportMixin, epochs_reported, with_callbacks
from sktriplet.data import as_tensor
from sktriplet.exceptions import InvalidParameterError
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.modules import MLP, Standardizer, embedding_network
from sktriplet.net import TripletNet, isolated_rng, one_thread
from sktriplet.validation import (
    validate_device,
    validate_module,
    validate_parameters,
    validate_rows,
    validate_template,
    validate_training_data,
)

# Parameters of the net, to the embedder's parameter that sets each.
OWNED = {
    "module": "module",
    "lr": "lr",
    "max_epochs": "max_epochs",
    "batch_size": "batch_size",
    "samples_per_class": "samples_per_class",
    "random_state": "random_state",
    "verbose": "verbose",
    "device": "device",
    "criterion__margin": "margin",
    "criterion__loss": "loss",
    "criterion__mining": "mining",
    "criterion__metric": "metric",
    "optimizer__lr": "lr",
    "optimizer__weight_decay": "weight_decay",
}


class TripletEmbedder(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    r"""Learn an embedding in which nearest neighbours share a class.

    A network is trained with a triplet loss on balanced batches,

    .. math::
        \max(d(a, p) - d(a, n) + \mathrm{margin}, 0),

    over anchors a, positives p of the anchor's class and negatives n of another; which
    triplets are used decides the result, and by default they are the semi-hard ones of
    each batch [1]_. Put it ahead of a
    :class:`~sklearn.neighbors.KNeighborsClassifier` in a pipeline. Inputs need no
    scaling.

    Parameters
    ----------
    n_components : int or None, default=32
        Width of the embedding. None, with a ``module`` of one's own only, takes the
        module's output as it is.

    margin : float, default=0.5
        How much farther than the positive a negative must be, for mining and for loss.

    loss : {"hinge", "soft_margin"} or callable, default="hinge"
        What a triplet costs: a name in `sktriplet.losses`, or a callable with the
        signature of the functions there. With ``"soft_margin"``, `margin` is only used
        when `mining` is ``"semi_hard"``.

    mining : {"semi_hard", "hard", "random", "all"} or callable, default="semi_hard"
        Which triplets of a batch to learn from: a name in `sktriplet.mining`, or a
        callable with the signature of the functions there. ``"all"`` takes every one.

    metric : {"sqeuclidean", "euclidean", "cosine"} or callable, default="sqeuclidean"
        Distance between embeddings during training: a name in `sktriplet.distances`, or
        a callable with the signature of the functions there. On the unit sphere all
        three order neighbours alike. ``"cosine"`` needs ``normalize=True``, since the
        neighbours are searched in Euclidean space afterwards.

    normalize : bool, default=True
        Whether to put embeddings on the unit sphere.

    module : "auto", class, callable or torch.nn.Module, default="auto"
        The network. ``"auto"`` is :class:`~sktriplet.modules.MLP`. A class or a callable
        is called with ``(input_shape, n_components)``. A module is copied, and its
        weights are where training starts.

    hidden_layer_sizes : sequence of int, default=(128, 64)
        Only used when ``module="auto"``.

    standardize : bool, default=True
        Whether the network centres and scales its inputs with the training rows' mean
        and standard deviation.

    batch_size : int, default=128
        Rows in a batch; fewer where the data are small.

    samples_per_class : int, default=8
        Rows of one class in a batch. Where there are too few classes to fill a batch,
        they give more.

    max_epochs : int, default=12
        Passes over the data. An epoch is at least 20 batches, so that small data are
        trained on as surely as large ones.

    lr : float, default=2e-3
        Learning rate of the first epoch. It falls along half a cosine to zero.

    weight_decay : float, default=1e-2
        Of the optimizer. Only used when the optimizer has it; AdamW, the default, does.

    random_state : int, RandomState instance or None, default=None
        Decides the initial weights and the batches. Pass an int for results that can be
        had again, bit for bit, also in joblib's workers; with a `module` of your own, only
        where torch has as many threads. Global random states are not changed.

    verbose : int, default=0
        Whether to print a line an epoch.

    device : str or torch.device, default="auto"
        Where to train and to transform. ``"auto"`` takes CUDA, then MPS, then the CPU.

    net : TripletNet or None, default=None
        An unfitted :class:`~sktriplet.net.TripletNet` to train in place of a plain one:
        the door to all else that skorch has, such as ``optimizer`` and ``callbacks``. It
        is cloned. What the parameters above set must not be set in it.

    Attributes
    ----------
    net_ : TripletNet
        The trained net.

    classes_ : ndarray of shape (n_classes,)
        The class labels seen in fit.

    n_features_in_ : int
        Number of features seen in fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features seen in fit, where X has names that are all strings.

    See Also
    --------
    sklearn.neighbors.NeighborhoodComponentsAnalysis : A linear map, learned without a
        network: for small tables that a linear map can sort out.

    References
    ----------
    .. [1] Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face
       Recognition and Clustering", CVPR 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktriplet import TripletEmbedder
    >>> X, y = load_wine(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     X, y, stratify=y, random_state=0
    ... )
    >>> pipeline = make_pipeline(
    ...     TripletEmbedder(max_epochs=10, random_state=0), KNeighborsClassifier()
    ... )
    >>> pipeline.fit(X_train, y_train).score(X_test, y_test) > 0.9
    True
    """

    _doc_link_module = "sktriplet"
    _doc_link_template = (
        "https://sktriplet.readthedocs.io/en/stable/generated/sktriplet.{estimator_name}.html"
    )

    def __init__(
        self,
        n_components: int | None = 32,
        *,
        margin: float = 0.5,
        loss: Any = "hinge",
        mining: Any = "semi_hard",
        metric: Any = "sqeuclidean",
        normalize: bool = True,
        module: Any = "auto",
        hidden_layer_sizes: Any = (128, 64),
        standardize: bool = True,
        batch_size: int = 128,
        samples_per_class: int = 8,
        max_epochs: int = 12,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        random_state: Any = None,
        verbose: int = 0,
        device: Any = "auto",
        net: TripletNet | None = None,
    ):
        self.n_components = n_components
        self.margin = margin
        self.loss = loss
        self.mining = mining
        self.metric = metric
        self.normalize = normalize
        self.module = module
        self.hidden_layer_sizes = hidden_layer_sizes
        self.standardize = standardize
        self.batch_size = batch_size
        self.samples_per_class = samples_per_class
        self.max_epochs = max_epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.net = net

    @with_callbacks
    def fit(self, X: Any, y: Any) -> "TripletEmbedder":
        """Learn the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        y : array-like of shape (n_samples,)
            Class labels, of any kind that scikit-learn's classifiers take.

        Returns
        -------
        TripletEmbedder
            Itself.

        Raises
        ------
        InvalidParameterError
            If a parameter has a value that it cannot have.
        ValueError
            If X or y cannot be learned from.
        """
        device = self._validate_settings()
        rows, classes, labels = validate_training_data(self, X, y)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        with isolated_rng(seed, device):
            network = self._build_network(rows, seed).to(device)
            width = validate_module(network, as_tensor(rows[:2]).to(device), self.n_components)
        net = self._build_net(network, seed, device).initialize()
        fitted = {"net_": net, "classes_": classes, "_n_features_out": width}
        # A net as small as the default gains nothing from threads: 0.71 s on 1 and on 2.
        threads = one_thread() if self.module == "auto" else nullcontext()
        with threads, epochs_reported(self, net, X, y, fitted):
            net.partial_fit(rows, labels)
        for name, value in fitted.items():
            setattr(self, name, value)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            In single precision.
        """
        check_is_fitted(self)
        return self.net_.embed(validate_rows(self, X))

    def score(self, X: Any, y: Any) -> float:
        """Mean average precision at R of the rows among themselves.

        It depends on how many classes and rows there are: compare scores of like parts
        only, such as the folds of one cross-validation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        y : array-like of shape (n_samples,)

        Returns
        -------
        float
            See :func:`~sktriplet.metrics.mean_average_precision_at_r_score`.
        """
        check_is_fitted(self)
        return mean_average_precision_at_r_score(self.net_.embed(validate_rows(self, X)), y)

    def _validate_settings(self) -> torch.device:
        """Check all that can be checked without data, and resolve the device."""
        validate_parameters(self)
        if self.n_components is None and isinstance(self.module, str):
            raise InvalidParameterError(
                "The 'n_components' parameter can be None only with a 'module' of your own. "
                f"Got n_components=None and module={self.module!r}."
            )
        if self.metric == "cosine" and not self.normalize:
            raise InvalidParameterError(
                "The 'metric' parameter can be 'cosine' only with normalize=True: neighbours "
                "are searched in Euclidean space. Got normalize=False."
            )
        if self.net is not None:
            validate_template(self.net, OWNED, type(self).__name__)
        return validate_device(self.device)

    def _build_network(self, rows: NDArray[np.float32], seed: int) -> nn.Module:
        if isinstance(self.module, nn.Module):
            body = copy.deepcopy(self.module)
        else:
            factory = self.module
            if factory == "auto":
                factory = partial(
                    MLP,
                    hidden_layer_sizes=self.hidden_layer_sizes,
                    generator=torch.Generator().manual_seed(seed),
                )
            body = factory(rows.shape[1:], self.n_components)
        standardizer = None
        if self.standardize:
            moments = StandardScaler().fit(rows)
            standardizer = Standardizer(moments.mean_, moments.scale_)
        return embedding_network(body, standardizer=standardizer, normalize=self.normalize)

    def _build_net(self, network: nn.Module, seed: int, device: torch.device) -> TripletNet:
        template = TripletNet() if self.net is None else clone(self.net)
        settings = {
            "module": network,
            "lr": self.lr,
            "max_epochs": self.max_epochs,
            "batch_size": self.batch_size,
            "samples_per_class": self.samples_per_class,
            "random_state": seed,
            "verbose": int(self.verbose),
            "device": str(device),
            **_accepted_by(
                template.criterion,
                "criterion",
                margin=self.margin,
                loss=self.loss,
                mining=self.mining,
                metric=self.metric,
            ),
            **_accepted_by(template.optimizer, "optimizer", weight_decay=self.weight_decay),
        }
        # skorch takes a module that is already made in its constructor only.
        return type(template)(**(template.get_params(deep=False) | settings))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _accepted_by(component: Any, prefix: str, **settings: Any) -> dict[str, Any]:
    """Those settings that a component of the net takes, under skorch's names for them."""
    accepted = inspect.signature(component).parameters
    return {f"{prefix}__{name}": value for name, value in settings.items() if name in accepted}
