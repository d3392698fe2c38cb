"""`TripletEmbedder`: the scikit-learn transformer."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from sktriplet._build import build_net, build_network, merged_moments, validate_template
from sktriplet._input_validation import (
    merged_classes,
    remember,
    validate_rows,
    validate_training_data,
)
from sktriplet._parameters import validate_parameters
from sktriplet._serialization import ArrayStateEstimator
from sktriplet.exceptions import InvalidParameterError
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.networks._embedding_network import validate_module
from sktriplet.training import TripletNet
from sktriplet.training._data import ArrayDataset, as_tensor
from sktriplet.training._device import validate_device
from sktriplet.training._early_stopping import stopped_early
from sktriplet.training._random_state import isolated_rng, one_thread
from sktriplet.training._sklearn_callbacks import (
    CallbackSupportMixin,
    epochs_reported,
    with_callbacks,
)


class TripletEmbedder(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ArrayStateEstimator
):
    r"""Learn an embedding in which nearest neighbours share a class.

    A network is trained with a triplet loss on balanced batches,

    .. math::
        \max(d(a, p) - d(a, n) + \mathrm{margin}, 0),

    over anchors a, positives p of the anchor's class and negatives n of another; which
    triplets are used decides the result, and by default they are the semi-hard ones of
    each batch [1]_. Put it ahead of a
    :class:`~sklearn.neighbors.KNeighborsClassifier` in a pipeline, on raw inputs.

    Parameters
    ----------
    n_components : int or None, default=64
        Width of the embedding. None, with a ``module`` of one's own only, takes the
        module's output as it is.

    margin : float, default=0.5
        How much farther than the positive a negative must be, for mining and for loss.

    loss : {"hinge", "soft_margin"} or callable, default="hinge"
        What a triplet costs: a name in `sktriplet.losses`, or a callable with the
        signature of the functions there. With ``"soft_margin"``, `margin` only bounds
        semi-hard mining, and scales the soft-neighbour term.

    mining : {"semi_hard", "hard", "random", "all"} or callable, default="semi_hard"
        Which triplets of a batch to learn from: a name in `sktriplet.mining`, or a
        callable with the signature of the functions there. ``"all"`` takes every one.

    metric : {"sqeuclidean", "euclidean", "cosine"} or callable, default="sqeuclidean"
        Distance between embeddings during training: a name in `sktriplet.distances`, or
        a callable with the signature of the functions there. On the unit sphere all
        three order neighbours alike. ``"cosine"`` needs ``normalize=True``, since the
        neighbours are searched in Euclidean space afterwards.

    nca_weight : float, default=2.0
        Of a soft-neighbour term beside the triplet loss: that of neighbourhood components
        analysis, over the batch [2]_ (`sktriplet.losses.nca_loss`). With 0 there is none.

    normalize : bool, default=True
        Whether to put embeddings on the unit sphere.

    module : "auto", class, callable or torch.nn.Module, default="auto"
        The network. ``"auto"`` is :class:`~sktriplet.networks.MLPEnsemble` for tables and
        :class:`~sktriplet.networks.ConvNet` for images. A class or a callable is called
        with ``(input_shape, n_components)``, input_shape being ``(n_features,)`` or
        ``(channels, height, width)``. A module is copied, and its weights are where
        training starts.

    hidden_layer_sizes : sequence of int, default=(256, 128)
        Only used when ``module="auto"`` and X is a table. ``()`` is a linear map.

    n_members : int, default=4
        Networks side by side, each of which learns a part of the embedding for itself; no
        more than give each eight components. Only used when ``module="auto"``, X is a table
        and there are hidden layers.

    input_shape : tuple of three int, default=None
        ``(channels, height, width)`` of images that come as flat rows, as in a pipeline,
        or whose channels cannot be told from the shape of X.

    augment : {"flip", "crop_erase", "crop_flip_erase"} or callable, default=None
        Changes batches in training: a name in `sktriplet.augmentation`, for images, or a
        callable that maps a batch, ``(B, channels, height, width)`` for images, of the
        dtype of X, to another one. What it draws from torch's generators is repeatable.

    standardize : bool, default=True
        Whether the network centres and scales its inputs with the training rows' mean
        and standard deviation, for each feature or for each channel.

    batch_size : int, default=128
        Rows in a batch; fewer where the data are small.

    samples_per_class : int, default=8
        Rows of one class in a batch. Where there are too few classes to fill a batch,
        they give more.

    max_epochs : int, default=16
        Passes over the data. An epoch is at least 10 batches, so that small data suffice.

    lr : float, default=2e-3
        Learning rate of the first step. It falls along half a cosine to zero at the last
        step of `max_epochs`.

    weight_decay : float, default=1e-2
        Of the optimizer. Only used when it has one; AdamW, the default, does.

    early_stopping : bool, default=False
        Whether to hold out some rows, look after each epoch how many of their nearest
        training rows share their class, and end the training when that gets no better.
        The weights of the best epoch are kept. The learning rate falls as it would
        without.

    validation_fraction : float, default=0.1
        Part of each class's rows to hold out. A class that would be left with fewer than
        two rows gives none. Only used when ``early_stopping=True``.

    n_iter_no_change : int, default=5
        Epochs in a row without a gain after which training ends. Only used when
        ``early_stopping=True``.

    tol : float, default=1e-4
        What counts as a gain. Only used when ``early_stopping=True``.

    warm_start : bool, default=False
        Whether fit goes on from where the last one ended, for `max_epochs` more epochs.
        Changed parameters are in effect; those that shape the network must stay.

    precision : {"float32", "bfloat16"}, default="float32"
        ``"bfloat16"`` runs the network in mixed precision: faster on GPUs and on
        processors with matrix units for it (AMX, AVX512-bf16), slower on others.
        Distances, losses and weights stay in float32.

    random_state : int, RandomState instance or None, default=None
        Decides the initial weights and the batches. Pass an int for the same bits again, also
        in joblib's workers; with images or a `module` of your own, only where torch has as
        many threads. Global random states are not changed.

    verbose : int, default=0
        Whether to print a line an epoch.

    device : str or torch.device, default="auto"
        Where to train and to transform. ``"auto"`` takes CUDA, then MPS, then the CPU.

    net : TripletNet or None, default=None
        An unfitted :class:`~sktriplet.training.TripletNet` to train in place of a plain one:
        the door to all else that skorch has, such as ``optimizer`` and ``callbacks``. It
        is cloned. What the parameters above set must not be set in it.

    Attributes
    ----------
    net_ : TripletNet
        The trained net.

    classes_ : ndarray of shape (n_classes,)
        The class labels seen in fit, or in all calls of partial_fit.

    history_ : list of dict
        A row for each epoch, ready for :class:`pandas.DataFrame`: ``epoch``,
        ``train_loss``, ``lr``, ``dur`` (seconds), the statistics of
        :class:`~sktriplet.losses.TripletLoss`, ``validation_score``, ``training_score``.

    n_iter_ : int
        Epochs run.

    validation_scores_ : list of float or None
        After each epoch, the part of held-out rows' 5 nearest training rows that share
        their class. None without `early_stopping`.

    best_validation_score_ : float or None

    n_features_in_ : int
        Number of features seen in fit; of images, the product of `input_shape_`.

    input_shape_ : tuple of int
        ``(n_features,)``, or ``(channels, height, width)``.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in fit, where X has names that are all strings.

    See Also
    --------
    sklearn.neighbors.NeighborhoodComponentsAnalysis : A linear map, learned without a
        network: for small tables that a linear map can sort out.

    References
    ----------
    .. [1] Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face
       Recognition and Clustering", CVPR 2015.
    .. [2] Goldberger, Hinton, Roweis and Salakhutdinov, "Neighbourhood Components Analysis",
       NeurIPS 2004.

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
        n_components: int | None = 64,
        *,
        margin: float = 0.5,
        loss: Any = "hinge",
        mining: Any = "semi_hard",
        metric: Any = "sqeuclidean",
        nca_weight: float = 2.0,
        normalize: bool = True,
        module: Any = "auto",
        hidden_layer_sizes: Any = (256, 128),
        n_members: int = 4,
        input_shape: tuple[int, int, int] | None = None,
        augment: Any = None,
        standardize: bool = True,
        batch_size: int = 128,
        samples_per_class: int = 8,
        max_epochs: int = 16,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        tol: float = 1e-4,
        warm_start: bool = False,
        precision: str = "float32",
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
        self.nca_weight = nca_weight
        self.normalize = normalize
        self.module = module
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_members = n_members
        self.input_shape = input_shape
        self.augment = augment
        self.standardize = standardize
        self.batch_size = batch_size
        self.samples_per_class = samples_per_class
        self.max_epochs = max_epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.net = net

    @with_callbacks
    def fit(self, X: Any, y: Any) -> "TripletEmbedder":
        """Learn the embedding.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Images are of shape ``(n_samples, height, width)``, or with channels first or
            last. Those of type uint8 stay so until their batch is made, and sparse rows stay
            sparse.

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
        goes_on = self.warm_start and hasattr(self, "net_")
        rows, labels, seen = validate_training_data(self, X, y, reset=not goes_on)
        moments = self._moments if goes_on else None
        if self.standardize and moments is None:
            moments = merged_moments(None, rows, seen["input_shape_"])
        fitted = self._prepare(rows, seen, moments, device, goes_on=goes_on)
        net, dataset = fitted["net_"], ArrayDataset(rows, labels)
        with (
            self._threads(seen["input_shape_"]),
            self._held_out(net, dataset) as training_set,
            epochs_reported(self, net, X, y, fitted),
        ):
            net.partial_fit(training_set)
        remember(self, fitted)
        return self

    def partial_fit(self, X: Any, y: Any) -> "TripletEmbedder":
        """Train one epoch on a chunk of the data.

        The learning rate is constant. New classes are welcome, and standardization goes
        by all rows seen so far.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images

        y : array-like of shape (n_samples,)
            At least two classes, one of them with two rows.

        Returns
        -------
        TripletEmbedder
            Itself.

        Raises
        ------
        InvalidParameterError
            If a parameter has a value that it cannot have.
        ValueError
            If X or y cannot be learned from, or with ``early_stopping=True``.
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True.")
        device = self._validate_settings()
        goes_on = hasattr(self, "net_")
        rows, labels, seen = validate_training_data(self, X, y, reset=not goes_on)
        if goes_on:
            seen["classes_"] = merged_classes(self.classes_, seen["classes_"])
        moments = None
        if self.standardize:
            known = self._moments if goes_on else None
            moments = merged_moments(known, rows, seen["input_shape_"])
        one_epoch = {"max_epochs": 1, "callbacks__lr_scheduler": None}
        fitted = self._prepare(rows, seen, moments, device, goes_on=goes_on, **one_epoch)
        with self._threads(seen["input_shape_"]):
            fitted["net_"].partial_fit(ArrayDataset(rows, labels))
        remember(self, fitted)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images

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
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images

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
            validate_template(self.net, type(self).__name__)
        return validate_device(self.device)

    @property
    def history_(self) -> list[dict[str, Any]]:  # noqa: D102
        return self.net_.epochs

    @property
    def n_iter_(self) -> int:  # noqa: D102
        return len(self.net_.history)

    @property
    def validation_scores_(self) -> list[float] | None:  # noqa: D102
        name = "validation_score"
        return [epoch[name] for epoch in self.net_.history if name in epoch] or None

    @property
    def best_validation_score_(self) -> float | None:  # noqa: D102
        return max(self.validation_scores_ or [], default=None)

    def _prepare(
        self,
        rows: NDArray | csr_array,
        seen: dict[str, Any],
        moments: StandardScaler | None,
        device: torch.device,
        *,
        goes_on: bool,
        **settings: Any,
    ) -> dict[str, Any]:
        """Make what a fitted estimator has, with a net that is ready to be trained."""
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        start = self.net_.module_.body if goes_on else None
        with isolated_rng(seed, device):
            shape = seen["input_shape_"]
            network = build_network(self, rows, shape, moments, seed=seed, start=start)
            first = as_tensor(rows[:2]).to(device)
            width = validate_module(network.to(device), first, self.n_components)
        settings |= {"random_state": seed, "device": str(device)}
        net = build_net(self, network, **settings).initialize()
        if goes_on:
            net.go_on_from(self.net_)
        learned = {"net_": net, "_moments": moments, "_n_features_out": width}
        return seen | learned | {"_fit_parameters": self.get_params(deep=False)}

    def _threads(self, input_shape: tuple[int, ...]) -> AbstractContextManager[None]:
        # A net as small as the MLP gains nothing from threads: 0.71 s on 1 and on 2.
        is_mlp = self.module == "auto" and len(input_shape) == 1
        return one_thread() if is_mlp else nullcontext()

    def _held_out(self, net: TripletNet, dataset: ArrayDataset) -> AbstractContextManager[Any]:
        if not self.early_stopping:
            return nullcontext(dataset)
        return stopped_early(
            net,
            dataset,
            fraction=self.validation_fraction,
            patience=self.n_iter_no_change,
            tol=self.tol,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
