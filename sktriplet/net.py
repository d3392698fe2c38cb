"""The training loop: skorch's, fed with balanced batches and a triplet loss."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR

from sktriplet.criterion import TripletLoss
from sktriplet.data import ArrayDataset, BatchLoader, as_tensor
from sktriplet.exceptions import CollapseWarning
from sktriplet.sampling import BalancedBatchSampler

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
        Follows half a cosine from here to zero over ``max_epochs``. Another schedule:
        ``callbacks__lr_scheduler=None`` and a callback of one's own.

    max_epochs : int, default=12

    batch_size, samples_per_class, min_batches : int, default=128, 8, 20
        Of :class:`~sktriplet.sampling.BalancedBatchSampler`.

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
    >>> from sktriplet.modules import MLP
    >>> from sktriplet.net import TripletNet
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
        max_epochs: int = 12,
        batch_size: int = 128,
        samples_per_class: int = 8,
        min_batches: int = 20,
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
        schedule = LRScheduler(CosineAnnealingLR, T_max=self.max_epochs)
        return [*super()._default_callbacks, ("lr_scheduler", schedule)]

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Ask for the fused update where torch has one: it takes less than half the time."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if self.optimizer in (torch.optim.Adam, torch.optim.AdamW):
            kwargs.setdefault("fused", torch.device(self.device).type in ("cpu", "cuda"))
        return args, kwargs

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Iterate over balanced batches in training, over consecutive rows otherwise."""
        if not training or self.iterator_train is not BatchLoader:
            return super().get_iterator(dataset, training=training)
        sampler = BalancedBatchSampler(
            dataset.y.numpy(),
            self.batch_size,
            self.samples_per_class,
            min_batches=self.min_batches,
            random_state=self.random_state,
        )
        sampler.epoch = len(self.history)
        return BatchLoader(dataset, self.batch_size, sampler)

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any
    ) -> "TripletNet":
        """Train for ``max_epochs`` more, leaving the global random state as it was."""
        with isolated_rng(self.random_state, self.device):
            return super().partial_fit(X, y, classes, **fit_params)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the epoch's line in the history and seed what is random in it."""
        epoch = len(self.history)
        super().on_epoch_begin(net, **kwargs)
        if self.random_state is not None:
            entropy = np.random.SeedSequence([self.random_state, epoch])
            torch.manual_seed(int(entropy.generate_state(1)[0]))

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """Take a step, and note what the criterion saw in the batch."""
        step = super().train_step(batch, **fit_params)
        statistics = getattr(self.criterion_, "statistics", {})
        if statistics:
            # Stacked, since each look at a number makes a GPU wait.
            values = torch.stack([value.float() for value in statistics.values()]).tolist()
            for name, value in zip(statistics, values, strict=True):
                self.history.record_batch(name, value)
        return step

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Add the means of the batches' statistics to the epoch's line."""
        super().on_epoch_end(net, **kwargs)
        for name in getattr(self.criterion_, "statistics", {}):
            values = [batch[name] for batch in self.history[-1]["batches"] if name in batch]
            defined = [value for value in values if np.isfinite(value)]
            self.history.record(name, float(np.mean(defined)) if defined else float("nan"))

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Warn if the embeddings have drawn together into one point."""
        super().on_train_end(net, **kwargs)
        spreads = [epoch["spread"] for epoch in self.history if "spread" in epoch]
        if not spreads:
            return
        at_first, at_last = self.history[0]["batches"][0]["spread"], spreads[-1]
        if at_last < COLLAPSED * at_first:
            warnings.warn(
                f"The embeddings have collapsed: their spread fell from {at_first:.3g} to "
                f"{at_last:.3g}, and the loss has nothing left to tell them apart. Try "
                "mining='semi_hard', normalize=True, a lower learning rate or larger batches.",
                CollapseWarning,
                stacklevel=2,
            )

    def embed(self, X: NDArray, chunk_size: int = 4096) -> NDArray[np.float32]:
        """Pass rows through the network in evaluation mode, a chunk at a time.

        Parameters
        ----------
        X : ndarray of shape (n_rows, ...)

        chunk_size : int, default=4096
            Bounds memory, not the result.

        Returns
        -------
        ndarray of shape (n_rows, n_components)
        """
        self.check_is_fitted()
        was_training = self.module_.training
        self.module_.eval()
        try:
            with torch.inference_mode():
                chunks = [self.infer(chunk).cpu() for chunk in as_tensor(X).split(chunk_size)]
        finally:
            self.module_.train(was_training)
        return torch.cat(chunks).float().numpy()


@contextmanager
def isolated_rng(seed: int | None, device: Any) -> Iterator[None]:
    """Seed torch inside, and put its global generators back outside.

    With ``seed=None`` the global generators are used as they are.
    """
    device = torch.device(device)
    on_cpu = device.type == "cpu"
    with torch.random.fork_rng(
        devices=[] if on_cpu else [device.index or 0],
        device_type="cuda" if on_cpu else device.type,
        enabled=seed is not None,
    ):
        if seed is not None:
            torch.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one CPU thread inside, on as many as before outside.

    Batch normalisation rounds otherwise on another number of threads, and joblib's
    workers have fewer of them than the main process.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
