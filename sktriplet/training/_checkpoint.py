"""Checkpoint file for resuming interrupted training."""

import json
import os
import re
from contextlib import suppress
from typing import Any
from zlib import crc32

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.history import History
from torch.utils.data import Subset

from sktriplet.training._data import ArrayDataset
from sktriplet.training._distributed import rank_and_world_size
from sktriplet.training._optimizer_state import (
    get_optimizer_state,
    load_optimizer_state,
    stateful_components,
)

# Number of samples from which the fingerprint of a dataset is computed.
FINGERPRINT_SIZE = 1000


class ResumableCheckpoint(Callback):
    """Save a checkpoint after each epoch, and resume from it if the file exists.

    The file is replaced atomically: if the process is killed, or the disk is full, it holds one
    complete epoch. It contains tensors and text only, and loading it runs no code.

    Parameters
    ----------
    path : str or path-like
        Checkpoint file of a single training run. Delete it to start over.

    Attributes
    ----------
    n_epochs_loaded_ : int
        Number of epochs after which training has resumed; zero without a file. If the net is
        verbose, it is also printed. Callbacks of a fitted embedder are in ``net_.callbacks_``.

    Raises
    ------
    ValueError
        If the file belongs to training with other data, or another loss, optimizer, batch
        composition or seed: pass an int as ``random_state``. Several runs, such as those of a
        cross-validation, need different files. The number of epochs may change.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from sktriplet import TripletEmbedder
    >>> from sktriplet.training import ResumableCheckpoint, TripletNet
    >>> net = TripletNet(callbacks=[ResumableCheckpoint("run.pt")])
    >>> embedder = TripletEmbedder(max_epochs=100, net=net, random_state=0)
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Load weights, optimizer state, and history if the file exists.

        Parameters
        ----------
        net : TripletNet
            Net to be trained.
        X : Dataset or array-like, default=None
            Training data, or a dataset.
        y : array-like, default=None
            Labels.
        **kwargs : dict
            Ignored, present for compatibility with skorch.
        """
        dataset = _base_dataset(net.get_dataset(X, y))
        self.fingerprint_ = _fingerprint(net, dataset)
        self.n_epochs_loaded_ = 0
        if not os.path.exists(self.path):
            return
        saved = torch.load(self.path, map_location=net.device, weights_only=True)
        differing = [
            name
            for name, text in self.fingerprint_.items()
            if saved["fingerprint"].get(name) != text
        ]
        if differing:
            hint = ""
            if "random_state" in differing:
                hint = " To resume, pass the same int as random_state in each run."
            raise ValueError(
                f"{os.fspath(self.path)} belongs to training with different "
                f"{', '.join(differing)}. Delete it to start over, or use another path for each "
                f"training run.{hint}"
            )
        for name, component in stateful_components(net).items():
            component.load_state_dict(saved["weights"][name])
        net.best_weights_ = saved["best_weights"]
        load_optimizer_state(net, saved["optimizer"])
        net.history_ = History(json.loads(saved["history"]))
        self.n_epochs_loaded_ = len(net.history) - net.first_epoch_
        if net.verbose:
            n_epochs = f"{self.n_epochs_loaded_} of {net.max_epochs} epochs"
            print(f"Training resumes from {os.fspath(self.path)} after {n_epochs}.")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Write a new file and replace the old one.

        In distributed training, only the first process writes.

        Parameters
        ----------
        net : TripletNet
            Net in training.
        **kwargs : dict
            Ignored, present for compatibility with skorch.
        """
        rank, _ = rank_and_world_size(net.network)
        if rank > 0:
            return
        new = f"{os.fspath(self.path)}.new"
        state = {
            "weights": {name: item.state_dict() for name, item in stateful_components(net).items()},
            "best_weights": net.best_weights_,
            "optimizer": get_optimizer_state(net),
            "history": history_to_json(net.history),
            "fingerprint": self.fingerprint_,
        }
        try:
            with open(new, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # for example, because the disk is full
            with suppress(OSError):
                os.remove(new)
            error.filename = new
            if os.path.exists(self.path):
                error.add_note(f"Training can resume from {os.fspath(self.path)}.")
            raise
        os.replace(new, self.path)


def history_to_json(history: History) -> str:
    r"""Convert a history to JSON; callbacks may have recorded any object.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch.history import History
    >>> from sktriplet.training._checkpoint import history_to_json
    >>> history_to_json(History([{"epoch": np.int64(1), "type": {int}}]))
    '[{"epoch": 1, "type": "{<class \'int\'>}"}]'
    """
    return json.dumps(
        list(history),
        default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value),
    )


def _base_dataset(dataset: Any) -> Any:
    while isinstance(dataset, Subset):  # The held-out samples follow from the seed.
        dataset = dataset.dataset
    return dataset


def _fingerprint(net: Any, dataset: Any) -> dict[str, str]:
    """Describe everything that determines a training step except the network."""
    data = ""
    if isinstance(dataset, ArrayDataset):
        n_samples = len(dataset)
        indices = np.linspace(0, n_samples - 1, min(n_samples, FINGERPRINT_SIZE)).astype(int)
        samples, _ = dataset[indices]
        parts = list(samples.values()) if isinstance(samples, dict) else [samples]
        checksums = [crc32(part.numpy().tobytes()) for part in parts]
        data = str([n_samples, *checksums, crc32(dataset.y.tobytes())])
    settings = {
        name: value
        for name, value in net.optimizer_.defaults.items()
        if type(value) in (int, float, tuple)  # Flags such as fused depend on the device.
    }
    descriptions = {
        "data": data,
        "loss": str(net.criterion_),
        "optimizer": f"{type(net.optimizer_).__name__} {settings}",
        "batches": str([net.batch_size, net.samples_per_class, net.min_batches]),
        "random_state": str(net.random_state),
        "cross-fitting": str(getattr(dataset, "folds", None) is not None),
    }
    # The address of a function differs between processes.
    return {name: re.sub(r" at 0x[0-9a-f]+", "", text) for name, text in descriptions.items()}
