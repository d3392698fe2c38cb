"""`TripletNet`: skorch's training loop with balanced batches, and embedding in chunks."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from fnmatch import fnmatch
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, ParamMapper, PassthroughScoring, PrintLog
from skorch.helper import SliceDict
from skorch.utils import to_tensor
from torch import Tensor
from torch.utils.data import Subset

from sktriplet._lazy_samples import LazySamples, read_ahead, reading_threads
from sktriplet.exceptions import CollapseWarning, DivergenceError, InvalidParameterError
from sktriplet.losses import TripletNCALoss
from sktriplet.losses._base import accepts_stacks
from sktriplet.training._data import ArrayDataset, BatchLoader, as_tensor, folds_of, labels_of
from sktriplet.training._device import has_fused_adam
from sktriplet.training._distributed import (
    broadcast_buffers,
    check_same_on_all_ranks,
    rank_and_world_size,
    unwrap_ddp,
)
from sktriplet.training._learning_rate import CosineAnnealing
from sktriplet.training._optimizer_state import (
    get_optimizer_state,
    load_optimizer_state,
    stateful_components,
)
from sktriplet.training._out_of_fold import leave_folds_out
from sktriplet.training._random_state import isolated_rng, seed_generators
from sktriplet.training._sampler import BalancedBatchSampler

# Columns of the history that are not printed.
PRINT_LOG_IGNORED = ("d_an", "d_ap", "lr", "spread", "train_batch_count", "training_score")
# Minimum number of rows that matrix products compute like those of any larger number.
MIN_ROWS = 16
# Minimum number of batches per epoch; fewer steps do not train a network.
MIN_BATCHES = 10
# Suffixes of history entries that skorch records for its own use.
INTERNAL_SUFFIXES = ("batches", "_best", "_batch_count")
# Fraction of the initial spread below which the embeddings have collapsed; and below which they
# have if their distances are also less than this fraction of the margin.
COLLAPSE_RATIO, PARTIAL_COLLAPSE_RATIO, MARGIN_RATIO = 0.01, 0.1, 0.1


class TripletNet(NeuralNet):
    """A :class:`skorch.NeuralNet` that learns an embedding from balanced batches.

    :class:`~sktriplet.TripletEmbedder` trains one and stores it as ``net_``. Pass an unfitted one
    as its ``net`` parameter to access skorch's other settings, such as the optimizer, callbacks,
    and compilation. It can also be fitted alone, like any other skorch net.

    Parameters
    ----------
    module : nn.Module class or instance, default=None
        Maps ``(B, ...)`` to embeddings ``(B, n_components)``. Set by the embedder.
    criterion : nn.Module class or instance, default=TripletNCALoss
        Batch loss, called as ``(embeddings, labels)``. Its ``statistics``, a dict of scalar
        tensors, are recorded in the history if it has any.
    optimizer : torch.optim.Optimizer class, default=AdamW
        Optimizer class.
    lr : float, default=2e-3
        Initial learning rate. It decreases along half a cosine to zero at the last step of
        ``max_epochs``. To use another schedule, pass ``callbacks__lr_scheduler=None`` and a
        callback.
    max_epochs : int, default=16
        Number of epochs.
    batch_size : int, default=128
        Number of samples per batch.
    samples_per_class : int, default=8
        Number of samples per class in a batch.
    min_batches : int or None, default=None
        Minimum number of batches per epoch, None for 10, or for 45 if the embedder trains a
        :class:`~sktriplet.networks.ConvNet`. See
        :class:`~sktriplet.training.BalancedBatchSampler` for all three.
    random_state : int, default=None
        Seeds the batches, and torch's global generators in each epoch; those are restored after
        training. None leaves the global generators unchanged.
    iterator_train : class, default=BatchLoader
        Iterator over training batches. Another class, such as
        :class:`torch.utils.data.DataLoader`, replaces balanced batches.
    iterator_valid : class, default=BatchLoader
        Iterator over batches for validation and prediction.
    dataset : class, default=ArrayDataset
        Dataset that wraps X and y.
    train_split : callable, default=None
        As in skorch, but without a split by default.
    **kwargs : dict
        Other parameters of :class:`skorch.NeuralNet`.

    See Also
    --------
    sktriplet.TripletEmbedder : The scikit-learn estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktriplet.networks import MLP
    >>> from sktriplet.training import TripletNet
    >>> X, y = load_iris(return_X_y=True)
    >>> net = TripletNet(
    ...     MLP((4,), n_components=2), max_epochs=2, random_state=0, verbose=0
    ... )
    >>> net.fit(X.astype("float32"), y).embed(X.astype("float32")).shape
    (150, 2)
    """

    callbacks_: list[tuple[str, Any]]
    # State of early stopping.
    is_stopped_ = False
    best_weights_: dict[str, dict[str, Any]] | None = None
    _training_loader: BatchLoader | None = None

    def __init__(
        self,
        module: Any = None,
        criterion: Any = TripletNCALoss,
        *,
        optimizer: Any = torch.optim.AdamW,
        lr: float = 2e-3,
        max_epochs: int = 16,
        batch_size: int = 128,
        samples_per_class: int = 8,
        min_batches: int | None = None,
        random_state: int | None = None,
        iterator_train: Any = BatchLoader,
        iterator_valid: Any = BatchLoader,
        dataset: Any = ArrayDataset,
        train_split: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            module,
            criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            dataset=dataset,
            train_split=train_split,
            **kwargs,
        )
        self.samples_per_class = samples_per_class
        self.min_batches = min_batches
        self.random_state = random_state

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("lr_scheduler", CosineAnnealing()),
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
            ("print_log", EpochLog(keys_ignored=list(PRINT_LOG_IGNORED))),
        ]

    def __sklearn_clone__(self) -> "TripletNet":
        """Clone as scikit-learn does, but share what callbacks hold and cannot be copied.

        Such as the writer of TensorBoard's callback, with which all clones write to one log.
        """
        params = self.get_params(deep=False)
        callbacks = params.pop("callbacks", None)
        params = {name: clone(value, safe=False) for name, value in params.items()}
        if isinstance(callbacks, list | tuple):
            callbacks = [_clone_callback(callback) for callback in callbacks]
        return type(self)(**params, callbacks=callbacks)

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Check patterns, and request torch's fused update, which takes half the time or less."""
        named_parameters = list(named_parameters)
        names = [name for name, _ in named_parameters]
        for pattern, _ in getattr(self, f"{prefix}__param_groups", None) or []:
            matched = _check_matches(pattern, names, f"{prefix}__param_groups")
            names = [name for name in names if name not in matched]  # The first match counts.
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if self.optimizer in (torch.optim.Adam, torch.optim.AdamW):
            kwargs.setdefault("fused", has_fused_adam(self.device))
        return args, kwargs

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Split the data as in skorch, also with the labels of a dataset."""
        dataset = self.get_dataset(X, y)
        if y is None and self.train_split and _has_labels(dataset):
            y = labels_of(dataset)
        training_set, self._validation_set = super().get_split_datasets(dataset, y, **fit_params)
        return training_set, self._validation_set

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return balanced batches for training and validation, consecutive samples otherwise."""
        validation_set = getattr(self, "_validation_set", None)
        is_validation = dataset is validation_set and _has_labels(dataset)
        iterator = self.iterator_train if training else self.iterator_valid
        if not (training or is_validation) or iterator is not BatchLoader:
            return super().get_iterator(dataset, training=training)
        labels = labels_of(dataset)
        check_same_on_all_ranks(self.network, random_state=self.random_state, y=labels)
        rank, num_replicas = rank_and_world_size(self.network)
        try:
            sampler = BalancedBatchSampler(
                labels,
                self.batch_size,
                self.samples_per_class,
                min_batches=(self.min_batches or MIN_BATCHES) if training else 1,
                random_state=self.random_state,
                num_replicas=num_replicas,
                rank=rank,
            )
        except ValueError as error:
            if training:
                raise
            warnings.warn(
                f"Validation batches cannot be balanced: {error} Consecutive samples are used. If "
                "samples are sorted by class, use train_split=ValidSplit(..., stratified=True).",
                stacklevel=2,
            )
            return super().get_iterator(dataset, training=False)
        if not training:  # The same batches in each epoch, for comparable losses.
            return BatchLoader(dataset, self.batch_size, list(sampler))
        sampler.epoch = len(self.history)
        self._training_loader = BatchLoader(dataset, self.batch_size, sampler)
        return self._training_loader

    def run_single_epoch(self, iterator: Any, training: bool, *args: Any, **kwargs: Any) -> None:
        """Record the number of batches, on which the learning rate depends."""
        if training:
            with suppress(TypeError):  # Iterable datasets have no length.
                self.batches_per_epoch_ = len(iterator)
            if self.network.training:  # Callbacks may have frozen parameters.
                self._freeze()
        super().run_single_epoch(iterator, training, *args, **kwargs)

    def initialize(self) -> "TripletNet":
        """Initialize modules and criteria without changing the global random state."""
        with isolated_rng(self.random_state, self.device):
            return super().initialize()

    def torch_compile(self, module: Any, name: str) -> Any:
        """Compile modules if ``compile=True``, but never a criterion.

        Mining branches on values of tensors, which compiled graphs do not support.
        """
        return module if name in self._criteria else super().torch_compile(module, name)

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any
    ) -> "TripletNet":
        """Train for ``max_epochs`` epochs without changing the global random state.

        If a callback loads the history of interrupted training, the remaining epochs are run.
        The result of interrupted training is kept.

        Parameters
        ----------
        X : array-like or Dataset
            Training samples.
        y : array-like of shape (n_samples,), default=None
            Integer labels.
        classes : array-like, default=None
            Ignored, present for compatibility with scikit-learn.
        **fit_params : dict
            Passed to the module's ``forward``, as in skorch.

        Returns
        -------
        self : object
            Trained net.
        """
        with isolated_rng(self.random_state, self.device):
            super().partial_fit(X, y, classes, **fit_params)
        if self.history and not self._is_epoch_complete:
            del self.history[-1]
            n_epochs = len(self.history) - self.first_epoch_
            warnings.warn(
                f"Training was interrupted after {n_epochs} of {self.max_epochs} epochs. The "
                "weights at that point are kept.",
                stacklevel=2,
            )
        return self

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Record the first epoch, before a callback loads a later one, and check patterns."""
        super().on_train_begin(net, **kwargs)
        self.first_epoch_ = len(self.history)
        self.is_stopped_, self.best_weights_ = False, None
        self._is_epoch_complete = True
        for name, callback in self.callbacks_:
            if isinstance(callback, ParamMapper):
                names = [name for name, _ in callback.named_parameters(net)]
                for pattern in callback.patterns:
                    _check_matches(pattern, names, f"{type(callback).__name__} callback {name!r}")

    def fit_loop(
        self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any
    ) -> "TripletNet":
        """Run the epochs that remain after those in a loaded history.

        Parameters
        ----------
        X : array-like or Dataset
            Training samples.
        y : array-like of shape (n_samples,), default=None
            Integer labels.
        epochs : int, default=None
            Number of epochs. None runs those that remain of ``max_epochs``.
        **fit_params : dict
            Passed to the module's ``forward``, as in skorch.

        Returns
        -------
        self : object
            Trained net.
        """
        if epochs is None:
            n_remaining = self.max_epochs - (len(self.history) - self.first_epoch_)
            epochs = 0 if self.is_stopped_ else max(n_remaining, 0)
        return super().fit_loop(X, y, epochs, **fit_params)

    def resume_from(self, other: "TripletNet") -> None:
        """Copy the history, the criterion's weights, and the optimizer state of another net.

        Parameters
        ----------
        other : TripletNet
            Trained net, which is not changed.
        """
        self.history_ = type(other.history)(other.history)
        components = stateful_components(other).items()
        self.load_components({name: item.state_dict() for name, item in components})
        load_optimizer_state(self, get_optimizer_state(other))

    def load_components(self, weights: dict[str, dict[str, Tensor]]) -> None:
        """Load the weights of criteria and of modules other than the first one, by name.

        Parameters
        ----------
        weights : dict of str to dict
            State dicts. Those that do not fit are dropped with a warning.
        """
        components = stateful_components(self)
        for name, state in weights.items():
            if name == self._modules[0]:
                continue
            try:
                components[name].load_state_dict(state)
            except (KeyError, RuntimeError) as error:
                warnings.warn(
                    f"The weights of the {name} no longer fit and were dropped: {error}",
                    stacklevel=3,
                )

    @contextmanager
    def temporary_callbacks(self, *, first: Callback, last: Callback) -> Iterator[None]:
        """Run one callback before and one after the net's own, which are unaware of them.

        A callback that stops training prevents later callbacks from running: callbacks that
        observe come first, those that stop come last.

        Parameters
        ----------
        first : Callback
            Runs before the net's own callbacks.
        last : Callback
            Runs after them.

        Yields
        ------
        None
            Callbacks are removed at the end of the block.
        """
        own = self.callbacks_
        self.callbacks_ = [(type(first).__name__, first), *own, (type(last).__name__, last)]
        try:
            yield
        finally:
            self.callbacks_ = own

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The history without batches: one dict per epoch."""
        return [
            {name: value for name, value in epoch.items() if not name.endswith(INTERNAL_SUFFIXES)}
            for epoch in self.history
        ]

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Start the epoch's entry in the history, and seed torch's generators."""
        epoch = len(self.history)
        self._is_epoch_complete = False
        super().on_epoch_begin(net, **kwargs)
        self._recorder = StatisticsRecorder()
        self._batch_statistics: list[dict[str, Tensor]] = []
        if self.random_state is not None:
            rank, _ = rank_and_world_size(self.network)
            entropy = np.random.SeedSequence([self.random_state, epoch, rank])
            seed_generators(int(entropy.generate_state(1)[0]), self.device)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        """Evaluate the criterion on the embeddings, or on each part that the module splits."""
        split = getattr(unwrap_ddp(self.network), "split_embeddings", None)
        parts = [y_pred] if split is None else split(y_pred)
        labels = [y_true] * len(parts)
        criterion = unwrap_ddp(self.criterion_)
        have_same_shape = len({part.shape for part in parts}) == 1
        at_once = accepts_stacks(criterion) and have_same_shape and len(parts) > 1
        folds = self._folds_of_batch() if training and len(parts) > 1 else None
        if folds is not None:
            device = parts[0].device
            targets, folds = to_tensor((y_true, folds), device=device)
            parts, labels = leave_folds_out(parts, targets, folds, equal_sizes=at_once)
            at_once = at_once and len({part.shape for part in parts}) == 1
        if at_once:
            parts, labels = [torch.stack(parts)], [torch.stack(labels)]
        losses, statistics = [], []
        for part, of_part in zip(parts, labels, strict=True):
            losses.append(super().get_loss(part, of_part, X, training))
            statistics.append(getattr(criterion, "statistics", {}))
        self._batch_statistics = statistics
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean(dim=0)

    def _folds_of_batch(self) -> Tensor | None:
        """Return the folds of the samples in the current training batch, if there are folds."""
        if self._training_loader is None:
            return None
        folds = folds_of(self._training_loader.dataset)
        return None if folds is None else torch.from_numpy(folds[self._training_loader.indices])

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """Take a step and record the criterion's statistics."""
        step = super().train_step(batch, **fit_params)
        self._recorder.add(self._batch_statistics)
        return step

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Stop training at the first loss that is not finite."""
        super().on_batch_end(net, batch, training, **kwargs)
        if training:
            self._check_finite("loss", self.history[-1]["batches"][-1].get("train_loss", 0.0))

    def _check_finite(self, name: str, value: float) -> None:
        if np.isfinite(value):
            return
        raise DivergenceError(
            f"Training diverged in epoch {len(self.history)}: the {name} became {value}. Try a "
            "lower lr, normalize=True and standardize=True, and check X for extreme values; in "
            "custom losses or metrics, check for roots and logarithms of zero. A "
            "skorch.callbacks.Checkpoint keeps the weights of the previous epoch."
        )

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Record the statistics of the batches, and their means over the epoch."""
        super().on_epoch_end(net, **kwargs)
        self._is_epoch_complete = True
        table = self._recorder.means()
        if "spread" in table:
            # Miners skip distances that are not finite, so the loss may be finite nevertheless.
            self._check_finite("spread of the embeddings", table["spread"][-1])
        for name, values in table.items():
            for batch, value in zip(self.history[-1]["batches"], values, strict=False):
                batch[name] = value
            finite = [value for value in values if np.isfinite(value)]
            self.history.record(name, float(np.mean(finite)) if finite else float("nan"))

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Switch to evaluation mode, and warn if the embeddings have collapsed."""
        super().on_train_end(net, **kwargs)
        self._validation_set, self._training_loader, self.is_stopped_ = None, None, False
        broadcast_buffers(self.network)
        self._switch_mode(False)
        epochs = [epoch for epoch in self.history if {"spread", "d_ap", "d_an"} <= set(epoch)]
        if not epochs:
            return
        first, last = epochs[0]["batches"][0]["spread"], epochs[-1]["spread"]
        margin = getattr(unwrap_ddp(self.criterion_), "margin", 0.0)
        is_within_margin = max(epochs[-1]["d_ap"], epochs[-1]["d_an"]) < MARGIN_RATIO * margin
        if last < (PARTIAL_COLLAPSE_RATIO if is_within_margin else COLLAPSE_RATIO) * first:
            warnings.warn(
                f"The embeddings have collapsed: their spread fell from {first:.3g} to "
                f"{last:.3g}, and all samples have nearly the same embedding. Try "
                "mining='semi_hard', normalize=True, a lower learning rate or larger batches.",
                CollapseWarning,
                stacklevel=2,
            )

    @property
    def network(self) -> Any:
        """The module, which subclasses may store under another name."""
        return getattr(self, f"{self._modules[0]}_")

    def _set_training(self, training: bool = True) -> None:
        # skorch visits all submodules before every step.
        if self.network.training != training:
            self._switch_mode(training)

    def _switch_mode(self, training: bool) -> None:
        super()._set_training(training)
        if training:
            self._freeze()

    def _freeze(self) -> None:
        """Set frozen submodules to evaluation mode, which keeps their batch statistics."""
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(item.requires_grad for item in parameters):
                module.eval()

    def embed(
        self, X: NDArray | csr_array | LazySamples, chunk_size: int | None = None
    ) -> NDArray[np.float32]:
        """Compute embeddings in evaluation mode, chunk by chunk.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...), LazySamples, or CSR matrix
            Samples. Lazy samples are read, and a sparse matrix is converted to dense arrays, chunk
            by chunk.
        chunk_size : int, default=None
            Number of samples per chunk, which affects memory only. None uses 4096, or fewer
            if samples are large.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, n_components)
            Embeddings in single precision.
        """
        self.check_is_fitted()
        if chunk_size is None:
            parts = X.values() if isinstance(X, SliceDict) else [X]
            size = sum(prod(part.shape[1:]) for part in parts)
            chunk_size = int(np.clip(2**22 // max(size, 1), 1, 4096))
        was_training = self.network.training
        self._set_training(False)
        embeddings, n_samples = np.empty((0, 0), np.float32), X.shape[0]
        try:
            with torch.inference_mode():
                starts = range(0, max(n_samples, 1), chunk_size)
                parts = (slice(start, start + chunk_size) for start in starts)
                chunks = read_ahead(lambda part: as_tensor(X[part]), parts, reading_threads(X))
                for part, samples in chunks:
                    chunk = self.infer(_padded(samples))
                    del samples  # before the next ones are read
                    if part.start == 0:
                        embeddings = np.empty((n_samples, *chunk.shape[1:]), np.float32)
                    n_rows = len(embeddings[part])  # without those of the padding
                    embeddings[part] = chunk[:n_rows].float().cpu()
        finally:
            self._set_training(was_training)
        return embeddings


def _padded(samples: Any) -> Any:
    """Repeat the last row of a few rows of a table until there are `MIN_ROWS`.

    Products with fewer rows are computed by other kernels, whose results differ by rounding: a
    sample would have another embedding alone than among others.
    """
    if isinstance(samples, dict) or samples.ndim != 2 or not 0 < len(samples) < MIN_ROWS:
        return samples
    return torch.cat([samples, samples[-1:].expand(MIN_ROWS - len(samples), -1)])


class EpochLog(PrintLog):
    """Print a line per epoch, with the one of the two fractions that varies.

    With semi-hard mining, only some pairs have a triplet, but all triplets have a positive loss.
    With other losses and miners, there is a triplet for each pair, or no such fraction.
    """

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Choose a fraction in the first epoch."""
        if self.first_iteration_:
            varies = net.history[-1].get("triplet_fraction", 1.0) < 1
            self.keys_ignored_.add("active_fraction" if varies else "triplet_fraction")
        super().on_epoch_end(net, **kwargs)


class StatisticsRecorder:
    """Statistics of the criterion in the batches of an epoch.

    They stay on their device until the end of the epoch: reading a value blocks a GPU.
    """

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Tensor]]] = []

    def add(self, parts: list[dict[str, Tensor]]) -> None:
        """Add the statistics of a batch: one dict for each part, or stack of parts."""
        self.batches.append(parts)

    def means(self) -> dict[str, list[float]]:
        """Return, for each statistic, its mean over the parts in each batch, NaN ignored."""
        if not self.batches or not self.batches[0] or not self.batches[0][0]:
            return {}
        names = list(self.batches[0][0])
        values = [
            part[name].float().reshape(-1)
            for batch in self.batches
            for name in names
            for part in batch
        ]
        # (n_batches, n_names, n_parts)
        table = torch.cat(values).view(len(self.batches), len(names), -1)
        means = table.nanmean(dim=2)
        if "spread" in names:
            # A part that is not finite must not be hidden by the others.
            spread = names.index("spread")
            means[:, spread] = table[:, spread].mean(dim=1)
        return dict(zip(names, means.T.tolist(), strict=True))


def _clone_callback(callback: Any) -> Any:
    if isinstance(callback, tuple):
        name, callback = callback
        return name, _clone_callback(callback)
    try:
        return clone(callback, safe=False)
    except TypeError:  # raised by copy.deepcopy
        return copy(callback)


def _has_labels(dataset: Any) -> bool:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return isinstance(dataset, ArrayDataset)


def _check_matches(pattern: Any, names: list[str], owner: str) -> set[str]:
    """Return the names of the parameters that match a pattern, of which there must be some."""
    is_match = pattern if callable(pattern) else partial(fnmatch, pat=pattern)
    matched = {name for name in names if is_match(name)}
    if not matched:
        raise InvalidParameterError(
            f"The pattern {pattern!r} of {owner} must match a parameter of the network. Available "
            f"names: {', '.join(names)}."
        )
    return matched
