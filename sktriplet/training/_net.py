"""TODO."""

import copy
import warnings
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog

from sktriplet.exceptions import CollapseWarning, DivergenceError
from sktriplet.losses import TripletLoss
from sktriplet.training._data import ArrayDataset, BatchLoader, as_tensor, labels_of
from sktriplet.training._distributed import check_agreement, place_of, share_buffers, unwrapped
from sktriplet.training._learning_rate import CosineAnnealing
from sktriplet.training._random_state import isolated_rng, seed_generators
from sktriplet.training._sampler import BalancedBatchSampler

# Columns of the history that the printed table leaves out.
UNPRINTED = (
    *("d_an", "d_ap", "lr", "spread", "train_batch_count", "training_score"),
    "triplet_fraction",
)


# Endings of what skorch notes in the history for its own use.
INTERNAL = ("batches", "_best", "_batch_count")


# The part of its first spread below which an embedding counts as one point.
COLLAPSED = 0.01


class TripletNet(NeuralNet):
    """A :class:`skorch.NeuralNet` that learns an embedding from balanced batches.

    :class:`~sktriplet.TripletEmbedder` trains one and keeps it as ``net_``. Give an
    unfitted one as its ``net`` parameter to reach what skorch has beyond the embedder's
    own parameters: the optimizer, callbacks, compilation. It can also be fitted alone,
    as any other skorch net.

    Parameters
    ----------
    module : nn.Module class or instance, default=None
        Maps ``(B, ...)`` to ``(B, n_components)``. Set by the embedder.

    criterion : nn.Module class or instance, default=TripletLoss
        Called as ``(embeddings, labels)``. ``criterion__reduction`` of a `TripletLoss` is
        ``"mean"`` here: as more pairs keep the margin the gradient fades, and learning
        ends by itself where there is nothing left to learn.

    optimizer : torch.optim.Optimizer class, default=AdamW

    lr : float, default=2e-3
        Falls along half a cosine from here to zero, step by step over ``max_epochs``.
        Another schedule: ``callbacks__lr_scheduler=None`` and a callback of one's own.

    max_epochs : int, default=16

    batch_size, samples_per_class, min_batches : int, default=128, 8, 10
        Of :class:`~sktriplet.training.BalancedBatchSampler`.

    random_state : int, default=None
        Seeds the batches and torch's generators anew in each epoch, and puts the global
        ones back after training. None leaves all to chance.

    train_split : callable, default=None
        As in skorch; none by default.

    **kwargs
        All other parameters of :class:`skorch.NeuralNet`.

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

    def __init__(
        self,
        module: Any = None,
        criterion: Any = TripletLoss,
        *,
        optimizer: Any = torch.optim.AdamW,
        lr: float = 2e-3,
        max_epochs: int = 16,
        batch_size: int = 128,
        samples_per_class: int = 8,
        min_batches: int = 10,
        random_state: int | None = None,
        iterator_train: Any = BatchLoader,
        iterator_valid: Any = BatchLoader,
        dataset: Any = ArrayDataset,
        train_split: Any = None,
        **kwargs: Any,
    ):
        if criterion is TripletLoss:
            kwargs.setdefault("criterion__reduction", "mean")
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
            ("print_log", PrintLog(keys_ignored=list(UNPRINTED))),
        ]

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Ask for the fused update where torch has one: it takes less than half the time."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if self.optimizer in (torch.optim.Adam, torch.optim.AdamW):
            kwargs.setdefault("fused", torch.device(self.device).type in ("cpu", "cuda"))
        return args, kwargs

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Iterate over balanced batches in training, over consecutive rows otherwise."""
        if not training:
            return super().get_iterator(dataset, training=False)
        if self.iterator_train is not BatchLoader:
            return super().get_iterator(dataset, training=True)
        labels = labels_of(dataset)
        check_agreement(self.module_, random_state=self.random_state, y=labels)
        rank, num_replicas = place_of(self.module_)
        sampler = BalancedBatchSampler(
            labels,
            self.batch_size,
            self.samples_per_class,
            min_batches=self.min_batches,
            random_state=self.random_state,
            num_replicas=num_replicas,
            rank=rank,
        )
        sampler.epoch = len(self.history)
        return BatchLoader(dataset, self.batch_size, sampler)

    def run_single_epoch(self, iterator: Any, training: bool, *args: Any, **kwargs: Any) -> None:
        """Note how many batches there are, since the learning rate goes by it."""
        if training:
            with suppress(TypeError):  # of iterable data sets, which do not know
                self.batches_per_epoch_ = len(iterator)
        super().run_single_epoch(iterator, training, *args, **kwargs)

    def torch_compile(self, module: Any, name: str) -> Any:
        """Compile the module if ``compile=True``, but never the criterion.

        Mining reads numbers back to decide what to do, which no compiled graph can.
        """
        return super().torch_compile(module, name) if name == "module" else module

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any
    ) -> "TripletNet":
        """Train for ``max_epochs`` more, leaving the global random state as it was.

        Where a callback loads the history of a training that was cut off, the epochs
        that remain are run. What an interrupted training has learned is kept.
        """
        with isolated_rng(self.random_state, self.device):
            super().partial_fit(X, y, classes, **fit_params)
        if self.history and "train_batch_count" not in self.history[-1]:
            del self.history[-1]
            n_epochs = len(self.history) - self.first_epoch_
            warnings.warn(
                f"Training was interrupted after {n_epochs} of {self.max_epochs} epochs. What was "
                "learned until then is kept.",
                stacklevel=2,
            )
        return self

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Note the epoch to start from, before a callback loads a later one."""
        super().on_train_begin(net, **kwargs)
        self.first_epoch_ = len(self.history)

    def fit_loop(
        self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any
    ) -> "TripletNet":
        """Run the epochs that a loaded history leaves to run."""
        if epochs is None:
            epochs = max(self.max_epochs - (len(self.history) - self.first_epoch_), 0)
        return super().fit_loop(X, y, epochs, **fit_params)

    def go_on_from(self, other: "TripletNet") -> None:
        """Take over another net's history, and how far its optimizer has come.

        Parameters
        ----------
        other : TripletNet
            With a module of the same shape. It is left as it is.
        """
        self.history_ = type(other.history)(other.history)
        if type(self.optimizer_) is type(other.optimizer_):
            groups = self.optimizer_.state_dict()["param_groups"]
            self.optimizer_.load_state_dict(
                copy.deepcopy(other.optimizer_.state_dict()) | {"param_groups": groups}
            )

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The history, a row for each epoch, without the batches."""
        return [
            {name: value for name, value in epoch.items() if not name.endswith(INTERNAL)}
            for epoch in self.history
        ]

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the epoch's line in the history and seed what is random in it."""
        epoch = len(self.history)
        super().on_epoch_begin(net, **kwargs)
        self._statistics: list[dict[str, torch.Tensor]] = []
        if self.random_state is not None:
            rank, _ = place_of(self.module_)
            entropy = np.random.SeedSequence([self.random_state, epoch, rank])
            seed_generators(int(entropy.generate_state(1)[0]), self.device)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        """Let the criterion judge the whole embedding, or each member's part of it for itself."""
        n_members = getattr(unwrapped(self.module_), "n_members", 1)
        # So scaled, distances in the whole are the root mean square of those in its parts.
        parts = (
            [y_pred] if n_members == 1 else (y_pred * n_members**0.5).tensor_split(n_members, dim=1)
        )
        losses, self._seen = [], []
        for part in parts:
            losses.append(super().get_loss(part, y_true, X, training))
            self._seen.append(getattr(unwrapped(self.criterion_), "statistics", {}))
        return torch.stack(losses).mean()

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """Take a step, and note what the criterion saw in the batch."""
        step = super().train_step(batch, **fit_params)
        self._statistics += self._seen
        return step

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """End the training at the first loss that is not finite."""
        super().on_batch_end(net, batch, training, **kwargs)
        if training:
            self._check_finite("loss", self.history[-1]["batches"][-1].get("train_loss", 0.0))

    def _check_finite(self, name: str, value: float) -> None:
        if np.isfinite(value):
            return
        raise DivergenceError(
            f"Training diverged in epoch {len(self.history)}: the {name} became {value}. Try a "
            "lower lr, normalize=True and standardize=True, and look for extreme values in X; with "
            "callables of your own, look for a root or a logarithm at zero. A "
            "skorch.callbacks.Checkpoint keeps the weights of the epoch before."
        )

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Record the batches' statistics and their means.

        All at once, since each look at a number makes a GPU wait.
        """
        super().on_epoch_end(net, **kwargs)
        statistics, self._statistics = self._statistics, []
        if not statistics or not statistics[0]:
            return
        names = list(statistics[0])
        values = torch.stack([seen[name].float() for seen in statistics for name in names])
        n_members = getattr(unwrapped(self.module_), "n_members", 1)
        by_batch = values.view(-1, n_members, len(names))
        if "spread" in names:
            # Miners pass over what is not finite, so that a loss need not show it.
            spread = by_batch[-1, :, names.index("spread")].sum().item()
            self._check_finite("spread of the embeddings", spread)
        table = by_batch.nanmean(dim=1).tolist()
        for batch, row in zip(self.history[-1]["batches"], table, strict=False):
            batch.update(zip(names, row, strict=True))
        for name, column in zip(names, zip(*table, strict=True), strict=True):
            defined = [value for value in column if np.isfinite(value)]
            self.history.record(name, float(np.mean(defined)) if defined else float("nan"))

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Warn if the embeddings have drawn together into one point."""
        super().on_train_end(net, **kwargs)
        share_buffers(self.module_)
        self.module_.eval()
        watched = [epoch for epoch in self.history if "spread" in epoch]
        if not watched:
            return
        at_first, at_last = watched[0]["batches"][0]["spread"], watched[-1]["spread"]
        if at_last < COLLAPSED * at_first:
            warnings.warn(
                f"The embeddings have collapsed: their spread fell from {at_first:.3g} to "
                f"{at_last:.3g}, and the loss has nothing left to tell them apart. Try "
                "mining='semi_hard', normalize=True, a lower learning rate or larger batches.",
                CollapseWarning,
                stacklevel=2,
            )

    def _set_training(self, training: bool = True) -> None:
        # skorch walks through all submodules before every step.
        if self.module_.training != training:
            super()._set_training(training)

    def embed(self, X: NDArray | csr_array, chunk_size: int | None = None) -> NDArray[np.float32]:
        """Pass rows through the network in evaluation mode, a chunk at a time.

        Parameters
        ----------
        X : ndarray of shape (n_rows, ...), or CSR matrix
            No more than a chunk of a sparse matrix is ever dense.

        chunk_size : int, default=None
            Bounds memory, not the result. None is 4096 rows, or fewer of large ones.

        Returns
        -------
        ndarray of shape (n_rows, n_components)
        """
        self.check_is_fitted()
        if chunk_size is None:
            chunk_size = int(np.clip(2**22 // max(prod(X.shape[1:]), 1), 1, 4096))
        was_training = self.module_.training
        if was_training:
            self.module_.eval()
        embeddings, n_rows = np.empty((0, 0), np.float32), X.shape[0]
        try:
            with torch.inference_mode():
                for start in range(0, max(n_rows, 1), chunk_size):
                    rows = slice(start, start + chunk_size)
                    chunk = self.infer(as_tensor(X[rows]))
                    if start == 0:
                        embeddings = np.empty((n_rows, *chunk.shape[1:]), np.float32)
                    embeddings[rows] = chunk.float().cpu()
        finally:
            if was_training:
                self.module_.train()
        return embeddings
