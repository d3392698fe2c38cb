"""The bridge from skorch's epochs to scikit-learn's callbacks.

scikit-learn has callbacks from 1.9 on. Below that the estimator works the same, without
``set_callbacks``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    HAS_SKLEARN_CALLBACKS = True
except ImportError:
    HAS_SKLEARN_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support yet."""

    def with_callbacks(method: Callable) -> Callable:
        """Leave the method as it is."""
        return method


@contextmanager
def epochs_reported(
    estimator: Any, net: NeuralNet, X: Any, y: Any, fitted_attributes: dict[str, Any]
) -> Iterator[None]:
    """Tell the callbacks set on the estimator of every epoch that the net is trained.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        In a method decorated by `with_callbacks`.

    net : NeuralNet
        Initialized. It forgets the bridge afterwards, and so pickles without it.

    X, y : array-like
        What the user gave to fit: callbacks score on it.

    fitted_attributes : dict
        What makes a copy of the estimator a fitted one.
    """
    if not HAS_SKLEARN_CALLBACKS:
        yield
        return
    fit_task = estimator._init_callback_context(max_subtasks=net.max_epochs)
    fit_task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    at_end = {
        "estimator": estimator,
        "X": X,
        "y": y,
        "reconstruction_attributes": fitted_attributes,
    }
    # First, since a callback that stops the training keeps those behind it from running.
    net.callbacks_.insert(0, ("sklearn_callbacks", EpochReporter(fit_task, at_end)))
    try:
        yield
    finally:
        del net.callbacks_[0]
    fit_task.call_on_fit_task_end(**at_end)


class EpochReporter(Callback):
    """A skorch callback that opens and closes a scikit-learn task for each epoch.

    Parameters
    ----------
    fit_task : sklearn.callback.CallbackContext

    at_end : dict
        Arguments of the tasks' ``call_on_fit_task_end``.
    """

    def __init__(self, fit_task: Any, at_end: dict[str, Any]):
        self.fit_task = fit_task
        self.at_end = at_end

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open a task."""
        self.epoch_task_ = self.fit_task.subcontext(task_name="epoch")
        self.epoch_task_.call_on_fit_task_begin(
            estimator=self.at_end["estimator"], X=self.at_end["X"], y=self.at_end["y"]
        )

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close it, and stop the training the way skorch does where a callback asks."""
        if self.epoch_task_.call_on_fit_task_end(**self.at_end):
            raise KeyboardInterrupt
