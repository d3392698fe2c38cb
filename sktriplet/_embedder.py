"""`TripletEmbedder`: the scikit-learn transformer."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import (
    Tags,
    check_consistent_length,
    check_random_state,
    column_or_1d,
    gen_batches,
)
from sklearn.utils._param_validation import StrOptions, make_constraint
from sklearn.utils.validation import _num_samples, check_is_fitted
from skorch.utils import to_tensor
from torch import nn

from sktriplet._build import (
    add_whitening,
    build_net,
    build_network,
    validate_template,
)
from sktriplet._classes import declare_classes, merge_classes
from sktriplet._input_layout import INPUT_SHAPES, InputLayout
from sktriplet._integers import select_extremes
from sktriplet._labels import check_labels, find_labeled
from sktriplet._multi_input import encode_samples
from sktriplet._parameters import Interval, SequenceOf, validate_parameters
from sktriplet._serialization import ArrayStateEstimator
from sktriplet._training_data import validate_training_data
from sktriplet._warnings import warn_user
from sktriplet.augmentation import AUGMENTATIONS
from sktriplet.distances import DISTANCES
from sktriplet.exceptions import InvalidParameterError, LargeNetworkWarning, SkippedChunkWarning
from sktriplet.losses import LOSSES, MINING_STRATEGIES
from sktriplet.metrics import mean_average_precision_at_r_score
from sktriplet.networks._embedding_network import (
    EmbeddingNetwork,
    explained_errors,
    validate_network,
)
from sktriplet.training import TripletNet
from sktriplet.training._data import ArrayDataset, as_tensor
from sktriplet.training._device import resolve_device
from sktriplet.training._early_stopping import early_stopping, validation_stopping
from sktriplet.training._net import MIN_BATCHES
from sktriplet.training._out_of_fold import (
    NO_FOLD,
    assign_folds,
    can_leave_folds_out,
    cross_fitted,
    out_of_fold_stopping,
    prefer_cross_fitted,
)
from sktriplet.training._random_state import isolated_rng, one_thread
from sktriplet.training._sklearn_callbacks import (
    CallbackSupportMixin,
    sklearn_callbacks,
    with_callbacks,
)
from sktriplet.training._whitening import fit_whitening

# Number of weights of a default network for tables from which an epoch takes several seconds.
LARGE_NETWORK = 2**25


class TripletEmbedder(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ArrayStateEstimator
):
    r"""Embed samples in a space where nearest neighbors share a class.

    A neural network is trained with the triplet loss

    .. math::
        \max(d(a, p) - d(a, n) + \mathrm{margin}, 0)

    over anchors a, positives p of the same class, and negatives n of another class, on balanced
    batches. Mining selects the triplets, by default the semi-hard triplets of each batch [1]_.
    Use the embedder in a pipeline before a :class:`~sklearn.neighbors.KNeighborsClassifier`.
    Features do not have to be scaled.

    Read more in the :doc:`user guide </guide>`.

    Parameters
    ----------
    n_components : int or None, default=64
        Dimension of the embedding. None keeps the output of a custom `module`.
    margin : float, default=0.5
        Minimum gap between the anchor-negative and anchor-positive distances, used by both
        mining and loss. It also scales the temperature of the NCA term.
    loss : str or callable, default="hinge"
        Loss applied to each triplet: the name of a function in :mod:`sktriplet.losses` ("hinge" or
        "soft_margin"), or a callable with the same signature. With "soft_margin", `margin`
        is used by semi-hard mining and the NCA term only.
    mining : str or callable, default="semi_hard"
        Selects the triplets of a batch: the name of a function in :mod:`sktriplet.mining`
        ("semi_hard", "hard" or "random"), "all" for every triplet, or a callable with the
        same signature.
    metric : str or callable, default="sqeuclidean"
        Distance between embeddings during training: the name of a function in
        :mod:`sktriplet.distances` ("sqeuclidean", "euclidean" or "cosine"), or a callable with the
        same signature. On the unit sphere all three rank neighbors identically. "cosine" requires
        ``normalize=True``, because neighbors are searched in Euclidean space afterwards.
    nca_weight : float, default=2.0
        Weight of an additional NCA loss term, that of neighborhood components analysis over the
        batch [2]_. Zero disables it.
    normalize : bool, default=True
        Whether to project embeddings onto the unit sphere. Embeddings with one component, of
        which only the sign would remain, are not normalized.
    whiten : "auto" or bool, default="auto"
        Whether to whiten the embeddings partially after training, and to normalize them again. It
        gives directions with little variance more weight, in which classes may differ that were not
        seen in training, and makes those that were less compact; see
        :class:`~sktriplet.networks.Whitening`. "auto" whitens embeddings of images. Pass False if
        only training classes are verified or retrieved, and True if those of a table will be
        others. Only used when ``normalize=True``.
    module : "auto", class, callable or torch.nn.Module, default="auto"
        The network. "auto" uses :class:`~sktriplet.networks.MLPEnsemble` for tables,
        :class:`~sktriplet.networks.ConvNet` for images, and
        :class:`~sktriplet.networks.ConvNet1d` for sequences. A class or callable is called with
        ``(input_shape, n_components)``, where input_shape is `input_shape_`. A module is copied,
        and training starts from its weights. With ``standardize=False``, it receives integers as
        int64, except uint8, which is converted to float32 like all other types. If X is a dict,
        it is called with one keyword argument per key.
    hidden_layer_sizes : int or sequence of int, default=(256, 128)
        Sizes of the hidden layers; ``()`` is a linear map. Only used when ``module="auto"`` and X
        is a table.
    n_members : int, default=4
        Number of networks in the ensemble, each of which learns a part of the embedding. There are
        fewer if a part would have fewer than eight components. Only used when
        ``module="auto"``, X is a table, and there are hidden layers.
    categorical_features : array-like, "from_dtype" or None, default="from_dtype"
        Categorical features of a table: a mask, indices, names, or "from_dtype", which selects the
        columns of a DataFrame whose dtype is categorical or text, or whose objects are not
        numbers. They are encoded one-hot; categories with fewer than five training samples
        share a column, missing values are a category, and unknown ones are treated like rare
        ones. All other features are numbers. Missing ones are replaced by the mean, and
        flagged in an additional feature if there are at least five in fit.
    input_shape : sequence of two or three int, dict or None, default=None
        ``(channels, length)`` of sequences, such as signals, which have shape ``(n_samples,
        channels, length)``, ``(n_samples, length, channels)``, or are flattened. Without it, arrays
        of three dimensions are images. ``(channels, height, width)`` of images that are passed
        flattened, as in a pipeline, or whose channels cannot be inferred from the shape of X. If X
        is a dict, a dict of such shapes for some of its keys.
    augment : str, callable or None, default="auto"
        Augmentation of training batches: the name of a function in :mod:`sktriplet.augmentation`
        ("affine", "flip", "crop_erase" or "crop_flip_erase"), for images, or a callable that maps a
        batch, for images of shape ``(B, channels, height, width)``, to another one. Batches have
        the dtype of X. Results are reproducible if it draws from torch's generators. "auto" is
        "affine" for images, and None for everything else and for ids.
    unlabeled : int or str, default=None
        Label in y that marks unlabeled samples, such as -1, scikit-learn's convention. They
        belong to no class and no triplet, but the statistics of the features include them. None
        takes every label as a class.
    standardize : bool or list of str, default=True
        Whether the network centers and scales its inputs with the mean and standard deviation of
        the training samples, per feature or per channel. Pass False if X holds ids, such as
        those of tokens, for an embedding layer of a custom `module`. If X is a dict, a list selects
        the keys to standardize.
    batch_size : int, default=128
        Number of samples per batch. Small datasets have smaller batches.
    samples_per_class : int, default=8
        Number of samples per class in a batch. It is increased if there are too few classes to
        fill a batch.
    max_epochs : int, default=16
        Maximum number of passes over the data. An epoch has at least 10 batches, or 45 with
        the default network for images, also on small datasets. The `min_batches` of `net` changes
        this.
    lr : float or "auto", default="auto"
        Initial learning rate. It decreases along half a cosine to zero at the last step of
        `max_epochs`. "auto" is 0.005 for :class:`~sktriplet.networks.ConvNet`, and 0.002 for all
        other networks.
    weight_decay : float, default=1e-2
        Weight decay of the optimizer, by default AdamW.
    cross_fit : bool, default=True
        Whether each member of the ensemble leaves out a different fold of the training samples, of
        which there are as many as members. These out-of-fold samples serve `early_stopping`, and
        `fit_transform` returns cross-fitted embeddings if neighbors are more reliable among them;
        see there. Samples of classes with fewer than two samples per fold are in no fold. Only
        used with at least four members, when at least 100 samples are in a fold, with balanced
        batches, without groups, and in training from scratch: neither by `partial_fit`, nor when
        `warm_start` continues. A custom `module` is cross-fitted if it has an attribute `n_members`
        and a true attribute `members_are_independent`: no two members share weights.
    early_stopping : "auto" or bool, default="auto"
        Whether to stop training when a validation score no longer improves, and to restore the
        weights of the best epoch. If the ensemble is cross-fitted, the score is computed from
        the out-of-fold embeddings of training samples: the negative Brier score of the class
        frequencies among their 30 nearest neighbors, or fewer if classes are small. Otherwise,
        True holds out samples, whose score is the fraction of their 5 nearest training samples
        that share their class, and "auto" does not stop. If `groups`, or `X_val` and `y_val`, are
        passed to fit, they replace these samples, and "auto" stops as well; ``groups=y`` stops
        by unseen classes. The schedule of the learning rate does not change.
    validation_fraction : float, default=0.1
        Fraction of each class to hold out, or of the groups that are passed to fit. Nothing is held
        out of a class that would keep fewer than two samples. Only used by early stopping
        with groups, and when ``early_stopping=True`` without cross-fitting.
    n_iter_no_change : int, default=5
        Number of epochs without an improvement after which training stops. Only used with early
        stopping.
    tol : float, default=1e-4
        Minimum improvement of the score. Only used with early stopping.
    warm_start : bool, default=False
        Whether fit continues from the previous solution, for `max_epochs` more epochs. Changed
        parameters take effect; those that determine the shapes of the network must not change.
    precision : {"float32", "bfloat16"}, default="float32"
        Precision of the network. "bfloat16" is mixed precision, which is faster on GPUs and on
        processors with matrix units for it (AMX, AVX512-bf16), and slower on others. Distances,
        losses, and weights are float32 with both.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights and the batches. Pass an int for bit-for-bit reproducible
        results, also in joblib's workers; with images or a custom `module`, only for the
        same number of threads. Global random states are not changed.
    verbose : int, default=0
        If nonzero, print one line per epoch.
    device : str or torch.device, default="auto"
        Device for training and transform. "auto" uses CUDA, then MPS, then the CPU.
    net : TripletNet or None, default=None
        Unfitted :class:`~sktriplet.training.TripletNet` to train instead of the default one. Gives
        access to all other skorch settings, such as ``criterion``, ``optimizer`` and
        ``callbacks``. It is cloned. It must not set any of the parameters above.

    Attributes
    ----------
    net_ : TripletNet
        Trained net.
    classes_ : ndarray of shape (n_classes,)
        Class labels seen in fit, or in all calls of partial_fit, or passed to partial_fit.
    history_ : list of dict
        One dict per epoch, which can be passed to :class:`pandas.DataFrame`: ``epoch``,
        ``train_loss``, ``lr``, ``dur`` (seconds), the statistics of
        :class:`~sktriplet.losses.TripletLoss`, ``validation_score``, and ``training_score``.
    n_iter_ : int
        Number of epochs.
    cross_fitted_ : bool
        Whether the embeddings that `fit_transform` returns are cross-fitted.
    validation_scores_ : list of float or None
        Validation score after each epoch of the latest fit; see `early_stopping`. None without
        early stopping.
    best_validation_score_ : float or None
        Largest validation score.
    n_features_in_ : int
        Number of features seen in fit; for images and sequences, the product of `input_shape_`.
    input_shape_ : tuple of int or dict
        ``(n_features,)``, ``(channels, height, width)``, or ``(channels, length)``; a dict if X is
        one.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen in fit. Defined only if all feature names of X are strings.

    See Also
    --------
    sklearn.neighbors.NeighborhoodComponentsAnalysis : Learns a linear map without a network, which
        can suffice for small tables.
    PairVerifier : Decides whether two samples are of the same class.
    OpenSetClassifier : Classifies samples or rejects them as unknown.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "loss": [StrOptions(set(LOSSES)), callable],
        "mining": [StrOptions(set(MINING_STRATEGIES)), callable],
        "metric": [StrOptions(set(DISTANCES)), callable],
        "nca_weight": [Interval(Real, 0, None, closed="left")],
        "normalize": ["boolean"],
        "whiten": [StrOptions({"auto"}), "boolean"],
        "module": [StrOptions({"auto"}), nn.Module, callable],
        "hidden_layer_sizes": [
            SequenceOf(Interval(Integral, 1, None, closed="left")),
            Interval(Integral, 1, None, closed="left"),
        ],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "input_shape": [*INPUT_SHAPES, dict, None],
        "augment": [StrOptions({"auto", *AUGMENTATIONS}), callable, None],
        "unlabeled": [Integral, str, None],
        "standardize": ["boolean", SequenceOf(make_constraint(str))],
        "batch_size": [Interval(Integral, 3, None, closed="left")],
        "samples_per_class": [Interval(Integral, 2, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "cross_fit": ["boolean"],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "precision": [StrOptions({"float32", "bfloat16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "device": [str, torch.device],
        "net": [TripletNet, None],
    }

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
        whiten: bool | str = "auto",
        module: Any = "auto",
        hidden_layer_sizes: Any = (256, 128),
        n_members: int = 4,
        categorical_features: Any = "from_dtype",
        input_shape: Any = None,
        augment: Any = "auto",
        unlabeled: int | str | None = None,
        standardize: Any = True,
        batch_size: int = 128,
        samples_per_class: int = 8,
        max_epochs: int = 16,
        lr: float | str = "auto",
        weight_decay: float = 1e-2,
        cross_fit: bool = True,
        early_stopping: bool | str = "auto",
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
        self.whiten = whiten
        self.module = module
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_members = n_members
        self.categorical_features = categorical_features
        self.input_shape = input_shape
        self.augment = augment
        self.unlabeled = unlabeled
        self.standardize = standardize
        self.batch_size = batch_size
        self.samples_per_class = samples_per_class
        self.max_epochs = max_epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.cross_fit = cross_fit
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
    def fit(
        self, X: Any, y: Any, groups: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> "TripletEmbedder":
        """Fit the embedding.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Training samples. Images have shape ``(n_samples, height, width)``, or additionally
            channels first or last. Images of type uint8 and sparse samples are converted
            batch by batch. :class:`~sktriplet.datasets.LazySamples` and map-style datasets of
            torch, which hold images or other arrays, are read batch by batch. For sequences, see
            `input_shape`. A dict holds several inputs of a custom `module`.
        y : array-like of shape (n_samples,)
            Class labels.
        groups : array-like of shape (n_samples,), default=None
            Groups, such as cameras, sessions or authors, which early stopping does not split: it
            holds out a fraction of them. ``groups=y`` holds out whole classes. If none of the
            held-out classes is in the training set, the score is the mean average precision at R of
            the held-out samples among themselves, otherwise it is that of held-out samples; see
            `early_stopping`. Groups turn on early stopping, and turn off `cross_fit`.
        X_val : {array-like, sparse matrix} of shape (n_val_samples, n_features), or images, \
                default=None
            Validation samples for early stopping, in addition to the training samples, all of which
            are trained on. They turn on early stopping. After each epoch they are scored as by
            `score`, before whitening. To transform `X_val` in a pipeline, pass
            ``transform_input=["X_val"]`` to :class:`~sklearn.pipeline.Pipeline`.
        y_val : array-like of shape (n_val_samples,), default=None
            Class labels of `X_val`, which may differ from those in y.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter has an invalid value or no effect.
        ValueError
            If X, y, groups, X_val or y_val is invalid, or if groups, or X_val and y_val, are passed
            with ``early_stopping=False``, or both.
        DivergenceError
            If the loss or the embeddings become NaN or infinite.
        """
        groups = self._validate_groups(y, groups, X_val, y_val)
        resume = self.warm_start and hasattr(self, "net_")
        fitted, dataset = self._prepare(X, y, resume=resume, has_groups=groups is not None)
        net = fitted["net_"]
        with (
            self._threads(fitted["input_shape_"]),
            self._stopping(fitted, dataset, groups, X_val, y_val) as training_set,
            sklearn_callbacks(self, net, X, y, fitted),
        ):
            net.partial_fit(training_set)
            fit_whitening(net, dataset)
            if dataset.folds is not None and prefer_cross_fitted(net, dataset):
                fitted["_folds"] = dataset.folds
        self._set_fitted(fitted)
        return self

    def fit_transform(
        self, X: Any, y: Any, groups: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> NDArray[np.float32]:
        """Fit the embedding, and embed the training samples by cross-fitting.

        ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``. Embedded by a network
        that has been trained on them, training samples with noisy labels are among those that
        share their label, and the neighbors of new samples predict overconfident probabilities.
        Here, each training sample is embedded by the ensemble member that has left it out, and
        mapped into the spaces of the other members by orthogonal maps. Pipelines call this
        method in fit.

        Where classes do not overlap, ordinary embeddings are better references. They are
        returned unless cross-fitted ones have the lower Brier score, which is computed from the
        5 nearest neighbors of out-of-fold samples. `cross_fitted_` tells which were returned.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Training samples, as in `fit`.
        y : array-like of shape (n_samples,)
            Class labels.
        groups : array-like of shape (n_samples,), default=None
            Groups for early stopping, as in `fit`.
        X_val : {array-like, sparse matrix} of shape (n_val_samples, n_features), or images, \
                default=None
            Validation samples for early stopping, as in `fit`.
        y_val : array-like of shape (n_val_samples,), default=None
            Class labels of `X_val`.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, n_components)
            Embeddings in single precision: cross-fitted ones if `cross_fitted_`, otherwise those of
            `transform`.

        Raises
        ------
        InvalidParameterError
            If a parameter has an invalid value or no effect.
        ValueError
            If X or y is invalid.
        DivergenceError
            If the loss or the embeddings become NaN or infinite.
        """
        embeddings = self.fit(X, y, groups, X_val=X_val, y_val=y_val)._embed(X)
        if self._folds is None:
            return embeddings
        n_members = self.net_.module.n_members
        folds = np.full(len(embeddings), NO_FOLD)
        folds[self._is_labeled(y)] = self._folds
        return cross_fitted(embeddings, folds, n_members, center=not self.normalize)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "TripletEmbedder":
        """Train one epoch on a chunk of the data.

        The learning rate is constant. New classes may appear; feature statistics are updated
        with every chunk. A chunk without triplets updates them too, but is not trained on, which
        a :class:`~sktriplet.exceptions.SkippedChunkWarning` reports. The
        categories of categorical features are those of the first chunk.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Samples of the chunk.
        y : array-like of shape (n_samples,)
            Class labels. Triplets require two classes, one of them with two samples.
        classes : array-like of shape (n_classes,), default=None
            All classes that may occur in y. If passed in one call, later ones may omit it, and
            labels of other classes raise an error. By default, any label is accepted.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter has an invalid value or no effect.
        ValueError
            If X, y or classes is invalid, or if ``early_stopping=True``.
        DivergenceError
            If the loss or the embeddings become NaN or infinite.
        """
        if self.early_stopping and self.early_stopping != "auto":
            raise ValueError("partial_fit does not support early_stopping=True.")
        fitted, dataset = self._prepare(
            X, y, resume=hasattr(self, "net_"), is_chunk=True, classes=classes
        )
        counts = np.unique(dataset.y, return_counts=True)[1]
        if len(counts) < 2 or counts.max() < 2:
            warnings.warn(
                "partial_fit made no training step: a triplet needs two classes in y, one of them "
                f"with two samples. Got {len(dataset)} labeled sample(s) of {len(counts)} "
                "class(es). The statistics of the features and classes_ are updated.",
                SkippedChunkWarning,
                stacklevel=2,
            )
        else:
            with self._threads(fitted["input_shape_"]):
                fitted["net_"].partial_fit(dataset)
                fit_whitening(fitted["net_"], dataset)
        self._set_fitted(fitted)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embed samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Samples, in any layout that is consistent with fit.

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

        Warns
        -----
        InputRangeWarning
            If images or sequences seem to be in other units than those in fit: only one of both
            is divided, for example by 255.
        """
        check_is_fitted(self)
        return self._embed(X)

    def score(self, X: Any, y: Any) -> float:
        """Compute the mean average precision at R of the samples among themselves.

        The score depends on the number of classes and samples. Compare only scores of similar
        datasets, such as the folds of a cross-validation.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or images
            Samples.
        y : array-like of shape (n_samples,)
            Class labels, which may differ from those seen in fit. Unlabeled samples are ignored.

        Returns
        -------
        score : float
            See :func:`~sktriplet.metrics.mean_average_precision_at_r_score`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X or y is invalid or not consistent with the training data.
        """
        check_is_fitted(self)
        embeddings = self._embed(X)
        if self.unlabeled is not None:
            check_consistent_length(embeddings, y)
            is_labeled = self._is_labeled(y)
            embeddings, y = embeddings[is_labeled], np.asarray(y)[is_labeled]
        return mean_average_precision_at_r_score(embeddings, y)

    @property
    def history_(self) -> list[dict[str, Any]]:
        """One dict per epoch."""
        return self.net_.epochs

    @property
    def n_iter_(self) -> int:
        """Number of epochs."""
        return len(self.net_.history)

    @property
    def cross_fitted_(self) -> bool:
        """Whether the embeddings that `fit_transform` returns are cross-fitted."""
        return self._folds is not None

    @property
    def validation_scores_(self) -> list[float] | None:
        """Validation score after each epoch of the latest fit."""
        name, epochs = "validation_score", self.net_.history[self._first_epoch :]
        return [epoch[name] for epoch in epochs if name in epoch] or None

    @property
    def best_validation_score_(self) -> float | None:
        """Largest validation score."""
        return max(self.validation_scores_ or [], default=None)

    def _set_fitted(self, attributes: dict[str, Any]) -> None:
        """Set the attributes of the fitted estimator, all at once."""
        self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(attributes)

    def _embed(self, X: Any) -> NDArray[np.float32]:
        preprocessor = self._preprocessor
        X = encode_samples(preprocessor, X, self)
        if preprocessor.becomes_dense(X):
            parts = (preprocessor.convert(X[part]) for part in gen_batches(X.shape[0], 4096))
            return np.concatenate([self.net_.embed(part) for part in parts])
        X = preprocessor.convert(X)
        with explained_errors(self.net_.module, X):
            return self.net_.embed(X)

    def _update_classes(
        self, seen: NDArray, declared: Any, *, resume: bool, is_chunk: bool
    ) -> tuple[NDArray, NDArray | None, list[Any]]:
        """Return the known classes, those declared in `partial_fit`, and all in order of codes."""
        known = seen
        if resume:
            merged = merge_classes(self.classes_, seen) if len(seen) else self.classes_
            known = merged if is_chunk else seen
        if is_chunk:
            declared = self._declare_classes(declared, known, resume=resume)
            known = known if declared is None else declared
        # Criteria may have weights per class: codes do not change, and new classes come last.
        order = self._class_order if resume else []
        return known, declared, list(dict.fromkeys([*order, *known.tolist()]))

    def _declare_classes(self, classes: Any, seen: NDArray, *, resume: bool) -> NDArray | None:
        """Return the classes passed to `partial_fit`, now or earlier, if there are any."""
        declared = self._declared_classes if resume else None
        if classes is None and declared is None:
            return None
        given = declare_classes(declared if classes is None else classes, seen, self.unlabeled)
        if declared is not None and not np.array_equal(given, declared):
            added, missing = np.setdiff1d(given, declared), np.setdiff1d(declared, given)
            raise ValueError(
                f"classes must be the same in all calls of partial_fit. Got {len(given)} classes "
                f"after {len(declared)}; new: {added[:5].tolist()}, missing: "
                f"{missing[:5].tolist()}."
            )
        return given

    def _is_labeled(self, y: Any) -> NDArray[np.bool_]:
        return find_labeled(column_or_1d(np.asarray(y)), self.unlabeled)

    def _prepare(
        self,
        X: Any,
        y: Any,
        *,
        resume: bool,
        is_chunk: bool = False,
        classes: Any = None,
        has_groups: bool = False,
    ) -> tuple[dict[str, Any], ArrayDataset]:
        """Return the attributes of the fitted estimator, with a net to train, and its data."""
        device = self._validate_settings()
        data = validate_training_data(
            self, X, y, fitted=self._preprocessor if resume else None, is_chunk=is_chunk
        )
        known, declared, order = self._update_classes(
            data.classes, classes, resume=resume, is_chunk=is_chunk
        )
        code = {label: number for number, label in enumerate(order)}
        # The last one is that of unlabeled samples, whose label is -1.
        codes = np.array([*(code[label] for label in data.classes.tolist()), -1])
        labels, preprocessor = codes[data.labels], data.preprocessor
        is_labeled = labels >= 0
        X = preprocessor.fit_convert(data.X, update=is_chunk)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        # Until the first step, chunks may have been too small to determine the bins of features.
        start = self.net_.module if resume and (self.n_iter_ or not is_chunk) else None
        settings: dict[str, Any] = {"random_state": seed, "device": str(device)}
        if is_chunk:
            min_batches = getattr(self.net, "min_batches", None) or MIN_BATCHES
            settings |= {
                "max_epochs": 1,
                "min_batches": min_batches,
                "callbacks__lr_scheduler": None,
            }
        with isolated_rng(seed, device):
            network = build_network(self, X, preprocessor, seed=seed, start=start).to(device)
            n_components = self._validate_network(network, X, device)
            add_whitening(self, network, preprocessor, n_components)
            before = self.net_.module.whitening if resume and is_chunk else None
            if before is not None and network.whitening is not None:
                network.whitening.load_state_dict(before.state_dict())
            net = build_net(self, network, **settings).initialize()
        if isinstance(self.module, str) and not resume:
            _warn_if_large(network, preprocessor.network_layout)  # type: ignore[union-attr]
        if not is_labeled.all():
            X, labels = X[is_labeled], labels[is_labeled]
        folds = None
        if resume:
            net.resume_from(self.net_)
        elif self.cross_fit and not (is_chunk or has_groups) and can_leave_folds_out(net):
            folds = assign_folds(labels, network.n_members, np.random.default_rng(seed))
        fitted = {
            "net_": net,
            "classes_": known,
            "input_shape_": preprocessor.shape,
            "n_features_in_": preprocessor.n_features,
            "_preprocessor": preprocessor,
            "_class_order": order,
            "_declared_classes": declared,
            "_folds": None,
            "_first_epoch": len(net.history) if resume else 0,
            "_n_features_out": n_components,
            "_fit_parameters": self.get_params(deep=False),
        }
        if preprocessor.feature_names is not None:
            fitted["feature_names_in_"] = preprocessor.feature_names
        return fitted, ArrayDataset(X, labels, folds)

    def _validate_settings(self) -> torch.device:
        """Check everything that does not depend on the data, and resolve the device."""
        validate_parameters(self, **self.get_params(deep=False))
        if self.n_components is None and isinstance(self.module, str):
            raise InvalidParameterError(
                "The 'n_components' parameter can be None only with a custom 'module'. "
                f"Got n_components=None and module={self.module!r}."
            )
        if self.metric == "cosine" and (not self.normalize or self.n_components == 1):
            raise InvalidParameterError(
                "The 'metric' parameter can be 'cosine' only with normalize=True and more than one "
                "component, because neighbors are searched in Euclidean space. Got "
                f"normalize={self.normalize} and n_components={self.n_components}."
            )
        if self.net is not None:
            validate_template(self)
        return resolve_device(self.device)

    def _validate_network(self, network: EmbeddingNetwork, X: Any, device: torch.device) -> int:
        """Run the network on some samples, and return the number of components."""
        some = to_tensor(as_tensor(X[select_extremes(X)]), device)
        n_components = validate_network(network, some, self.n_components)
        if n_components == 1 and self.metric == "cosine":
            raise InvalidParameterError(
                "The 'metric' parameter can be 'cosine' only with more than one component. Got "
                "a module with one component."
            )
        return n_components

    def _threads(self, input_shape: Any) -> AbstractContextManager[None]:
        # The small default networks for tables do not benefit from more threads.
        is_small = isinstance(self.module, str) and len(input_shape) == 1
        return one_thread() if is_small else nullcontext()

    def _validate_groups(self, y: Any, groups: Any, X_val: Any, y_val: Any) -> NDArray | None:
        """Check what is passed to fit for early stopping; return the groups of labeled samples."""
        if (X_val is None) != (y_val is None):
            given = "y_val" if X_val is None else "X_val"
            raise ValueError(f"X_val and y_val must be passed together. Got {given} only.")
        if X_val is not None and groups is not None:
            raise ValueError(
                "Early stopping holds out groups, or uses X_val and y_val instead. Got both."
            )
        if not self.early_stopping and not (X_val is None and groups is None):
            name = "groups" if X_val is None else "X_val"
            raise ValueError(
                f"{name} has no effect with early_stopping={self.early_stopping}. Use 'auto' or "
                f"True, or do not pass {name}."
            )
        if groups is None:
            return None
        groups = check_labels(groups, "groups")
        if y is not None and len(groups) != _num_samples(y):
            raise ValueError(
                f"groups must have one value per sample, {_num_samples(y)}. Got {len(groups)}."
            )
        return groups if self.unlabeled is None else groups[self._is_labeled(y)]

    def _validation_score(self, fitted: dict[str, Any], X_val: Any, y_val: Any) -> Any:
        """Return a function that scores the validation set with the net in training."""
        embedder: Any = object.__new__(type(self))  # A shallow copy would copy the net as well.
        vars(embedder).update(vars(self))
        embedder._set_fitted(fitted)
        score = partial(embedder.score, X_val, y_val)
        try:
            if np.isnan(score()):
                raise ValueError("The mean average precision at R is undefined.")
        except (TypeError, ValueError, UndefinedMetricWarning) as error:
            error_type = TypeError if isinstance(error, TypeError) else ValueError
            raise error_type(f"X_val and y_val cannot be scored. {error}") from error
        return score

    def _stopping(
        self, fitted: dict[str, Any], dataset: ArrayDataset, groups: Any, X_val: Any, y_val: Any
    ) -> AbstractContextManager[Any]:
        net = fitted["net_"]
        settings: dict[str, Any] = {"n_iter_no_change": self.n_iter_no_change, "tol": self.tol}
        if X_val is not None:
            score = self._validation_score(fitted, X_val, y_val)
            return validation_stopping(net, dataset, score, **settings)
        if groups is not None:
            fraction = self.validation_fraction
            return early_stopping(
                net, dataset, groups=groups, validation_fraction=fraction, **settings
            )
        if self.early_stopping and dataset.folds is not None:
            return out_of_fold_stopping(net, dataset, **settings)
        if not self.early_stopping or isinstance(self.early_stopping, str):
            return nullcontext(dataset)
        return early_stopping(
            net, dataset, validation_fraction=self.validation_fraction, **settings
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _warn_if_large(network: nn.Module, layout: InputLayout) -> None:
    n_weights = sum(weights.numel() for weights in network.parameters())
    if layout.is_table and n_weights > LARGE_NETWORK:
        warn_user(
            f"The network for {layout.shape[0]:,} features has {n_weights:,} weights, all of which "
            f"are updated in each step, and requires {n_weights * 16 / 2**30:.1f} GiB during "
            "training. Reduce the features first, for example with TruncatedSVD, or use smaller "
            "hidden_layer_sizes or fewer n_members.",
            LargeNetworkWarning,
        )
