"""The file from which a training that was cut off goes on."""

import json
import os
from operator import methodcaller
from typing import Any

import torch
from skorch.callbacks import Callback
from skorch.history import History

from sktriplet.distributed import place_of, unwrapped


class ResumableCheckpoint(Callback):
    """Write down every epoch, and begin where the file says that a training was cut off.

    The file is replaced as a whole: a process that is killed leaves the one epoch or the other,
    never parts of both. It holds tensors and text only, and loading it runs no code.

    Parameters
    ----------
    path : str or path
        The file. Delete it to begin anew.

    Examples
    --------
    >>> from sktriplet import TripletEmbedder
    >>> from sktriplet.checkpoint import ResumableCheckpoint
    >>> from sktriplet.net import TripletNet
    >>> net = TripletNet(callbacks=[ResumableCheckpoint("run.pt")])
    >>> embedder = TripletEmbedder(max_epochs=100, net=net, random_state=0)
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Take over weights, optimizer and history, if there are any."""
        if not os.path.exists(self.path):
            return
        saved = torch.load(self.path, map_location=net.device, weights_only=True)
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
            "history": json.dumps(list(net.history), default=methodcaller("item")),
        }
        with open(new, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)
