"""TODO."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import ArrayLike
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
    estimator: Any, net: NeuralNet, X: ArrayLike, y: ArrayLike, fitted_attributes: dict[str, Any]
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
    reporter = EpochReporter(fit_task, at_end)
    with _attached(net, first=reporter, last=StopOnRequest(reporter)):
        yield
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
        """Close it."""
        self.stop_requested_ = self.epoch_task_.call_on_fit_task_end(**self.at_end)


class StopOnRequest(Callback):
    """Stop the training the way skorch does, where a scikit-learn callback asks for it.

    Parameters
    ----------
    reporter : EpochReporter
    """

    def __init__(self, reporter: EpochReporter):
        self.reporter = reporter

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Stop."""
        if self.reporter.stop_requested_:
            raise KeyboardInterrupt


@contextmanager
def _attached(net: NeuralNet, *, first: Callback, last: Callback) -> Iterator[None]:
    """Run callbacks ahead of and behind the net's own, which do not see each other.

    A callback that stops the training keeps those behind it from running: what only looks
    comes first, and what stops comes last.
    """
    own = net.callbacks_
    net.callbacks_ = [(type(first).__name__, first), *own, (type(last).__name__, last)]
    try:
        yield
    finally:
        net.callbacks_ = own
