"""The file from which a training that was cut off goes on."""

import json
import os
import re
from typing import Any
from zlib import crc32

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.history import History
from torch.utils.data import Subset

from sktriplet.training._data import ArrayDataset
from sktriplet.training._distributed import place_of, unwrapped


def history_as_json(history: History) -> str:
    r"""Write down a history, in which callbacks may have put anything.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch.history import History
    >>> from sktriplet.training._checkpoint import history_as_json
    >>> history_as_json(History([{"epoch": np.int64(1), "kind": {int}}]))
    '[{"epoch": 1, "kind": "{<class \'int\'>}"}]'
    """
    return json.dumps(
        list(history),
        default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value),
    )


# Rows by which data are told from others.
SOME_ROWS = 1000


class ResumableCheckpoint(Callback):
    """Write down every epoch, and begin where the file says that a training was cut off.

    The file is replaced as a whole: a process that is killed leaves the one epoch or the other,
    never parts of both. It holds tensors and text only, and loading it runs no code.

    Parameters
    ----------
    path : str or path
        The file, of one training. Delete it to begin anew.

    Raises
    ------
    ValueError
        If the file is of a training with other data, or another loss, optimizer or kind of batches:
        trainings such as those of a cross-validation need files of their own. The seed and the
        number of epochs may differ.

    Examples
    --------
    >>> from sktriplet import TripletEmbedder
    >>> from sktriplet.training import ResumableCheckpoint
    >>> from sktriplet.training import TripletNet
    >>> net = TripletNet(callbacks=[ResumableCheckpoint("run.pt")])
    >>> embedder = TripletEmbedder(max_epochs=100, net=net, random_state=0)
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Take over weights, optimizer and history, if there are any."""
        self.training_ = _told_apart_by(net, net.get_dataset(X, y))
        if not os.path.exists(self.path):
            return
        saved = torch.load(self.path, map_location=net.device, weights_only=True)
        others = [name for name, text in self.training_.items() if saved["training"][name] != text]
        if others:
            raise ValueError(
                f"{os.fspath(self.path)} is of another training, with other {', '.join(others)}. "
                "Delete it to begin anew, or give each training a path of its own."
            )
        unwrapped(net.module_).load_state_dict(saved["module"])
        net.optimizer_.load_state_dict(saved["optimizer"])
        net.history_ = History(json.loads(saved["history"]))

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Write to a new file, and put it in the place of the old one.

        Of several processes that train together, the first one does.
        """
        rank, _ = place_of(net.module_)
        if rank > 0:
            return
        new = f"{os.fspath(self.path)}.new"
        state = {
            "module": unwrapped(net.module_).state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "history": history_as_json(net.history),
            "training": self.training_,
        }
        with open(new, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)


def _told_apart_by(net: Any, dataset: Any) -> dict[str, str]:
    """Describe all that decides what a step does, but for the seed and the network itself."""
    while isinstance(dataset, Subset):  # some of the rows held out, which follows from the seed
        dataset = dataset.dataset
    data = ""
    if isinstance(dataset, ArrayDataset):
        n_rows = len(dataset)
        some, _ = dataset[np.linspace(0, n_rows - 1, min(n_rows, SOME_ROWS)).astype(int)]
        data = str([n_rows, crc32(some.numpy().tobytes()), crc32(dataset.y.tobytes())])
    numbers = {
        name: value
        for name, value in net.optimizer_.defaults.items()
        if type(value) in (int, float, tuple)  # flags such as fused go by the device
    }
    described = {
        "data": data,
        "loss": str(net.criterion_),
        "optimizer": f"{type(net.optimizer_).__name__} {numbers}",
        "batches": str([net.batch_size, net.samples_per_class, net.min_batches]),
    }
    # Where in memory a function lies is another place in each process.
    return {name: re.sub(r" at 0x[0-9a-f]+", "", text) for name, text in described.items()}
