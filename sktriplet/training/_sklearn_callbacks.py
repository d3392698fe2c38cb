"""Bridge from skorch's callbacks to scikit-learn's, which exist since scikit-learn 1.9.

With older versions the estimator works the same, but has no ``set_callbacks``.
"""

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
        """Stand-in for scikit-learn's class."""

    def with_callbacks(method: Callable) -> Callable:
        """Return the method unchanged."""
        return method


@contextmanager
def sklearn_callbacks(
    estimator: Any, net: Any, X: ArrayLike, y: ArrayLike, fitted_attributes: dict[str, Any]
) -> Iterator[None]:
    """Run the callbacks that are set on the estimator in each epoch of an initialized net.

    The bridge is removed at the end, so the net is pickled without it. Callbacks may score on X
    and y, with a copy of the estimator that has the fitted attributes.
    """
    if not HAS_SKLEARN_CALLBACKS:
        yield
        return
    fit_task = estimator._init_callback_context(max_subtasks=net.max_epochs)
    fit_task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    end_kwargs = {
        "estimator": estimator,
        "X": X,
        "y": y,
        "reconstruction_attributes": fitted_attributes,
    }
    bridge = SklearnCallbackBridge(fit_task, end_kwargs)
    with net.temporary_callbacks(first=bridge, last=StopOnRequest(bridge)):
        yield
    fit_task.call_on_fit_task_end(**end_kwargs)


class SklearnCallbackBridge(Callback):
    """Open and close a scikit-learn task in each epoch of the task of the whole fit."""

    def __init__(self, fit_task: Any, end_kwargs: dict[str, Any]):
        self.fit_task = fit_task
        self.end_kwargs = end_kwargs

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open a task."""
        self.epoch_task_ = self.fit_task.subcontext(task_name="epoch")
        begin_kwargs = {name: self.end_kwargs[name] for name in ("estimator", "X", "y")}
        self.epoch_task_.call_on_fit_task_begin(**begin_kwargs)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close the task."""
        self.stop_requested_ = self.epoch_task_.call_on_fit_task_end(**self.end_kwargs)


class StopOnRequest(Callback):
    """Stop training, as skorch does, if a scikit-learn callback has requested it."""

    def __init__(self, bridge: SklearnCallbackBridge):
        self.bridge = bridge

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Interrupt training."""
        if self.bridge.stop_requested_:
            raise KeyboardInterrupt
