"""TODO."""

from math import cos, pi
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback


class CosineAnnealing(Callback):
    r"""Let the learning rate fall along half a cosine, from its value to zero.

    At the fraction t of all steps of a training the rate is

    .. math::
        \mathrm{lr} \cdot (1 + \cos(\pi t)) / 2,

    a function of the epoch and the batch alone, so that a resumed training goes on where
    the interrupted one stopped [1]_. Each group of the optimizer keeps its own rate, and
    has it back when the training is over. The history's ``lr`` is the rate of an epoch's
    first step.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
       ICLR 2017, without restarts.
    """

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Note where to start from."""
        self.rates_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Set the rate of the step to come."""
        if not training:
            return
        n_epochs = len(net.history) - 1 - net.first_epoch_
        n_batches = len(net.history[-1]["batches"]) - 1
        progress = (n_epochs + n_batches / net.batches_per_epoch_) / net.max_epochs
        for group, rate in zip(net.optimizer_.param_groups, self.rates_, strict=True):
            group["lr"] = rate * (1 + cos(pi * progress)) / 2
        if n_batches == 0:
            net.history.record("lr", net.optimizer_.param_groups[0]["lr"])

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Give each group its rate back."""
        for group, rate in zip(net.optimizer_.param_groups, self.rates_, strict=True):
            group["lr"] = rate
