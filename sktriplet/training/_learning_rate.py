"""Learning rate schedule."""

from math import cos, pi
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback


class CosineAnnealing(Callback):
    r"""Decrease the learning rate along half a cosine, from its initial value to zero.

    After a fraction t of all training steps the rate is

    .. math::
        \mathrm{lr} \cdot (1 + \cos(\pi t)) / 2.

    It depends on the epoch and the batch only, so resumed training continues like uninterrupted
    training [1]_. Each parameter group of the optimizer has its own rate, which is restored at
    the end. The history's ``lr`` is the rate of the first step of an epoch.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
       ICLR 2017, without restarts.
    """

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Read the initial rates."""
        self.initial_rates_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Set the rates of the next step."""
        if not training:
            return
        n_epochs = len(net.history) - 1 - net.first_epoch_
        n_batches = len(net.history[-1]["batches"]) - 1
        # Iterable datasets have no length: their rate decreases once per epoch.
        batches_per_epoch = getattr(net, "batches_per_epoch_", None) or np.inf
        progress = min((n_epochs + n_batches / batches_per_epoch) / net.max_epochs, 1)
        for group, rate in zip(net.optimizer_.param_groups, self.initial_rates_, strict=True):
            group["lr"] = rate * (1 + cos(pi * progress)) / 2
        if n_batches == 0:
            net.history.record("lr", net.optimizer_.param_groups[0]["lr"])

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the initial rates."""
        for group, rate in zip(net.optimizer_.param_groups, self.initial_rates_, strict=True):
            group["lr"] = rate
