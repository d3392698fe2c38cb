"""Pickling of fitted embedders as arrays, numbers, and text, without tensors.

Files are small, can be loaded on machines without the original device, and require no trusted
types in skops other than the estimators. The network is not stored: it is rebuilt from
the parameters and loads its weights.
"""

import json
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from skorch.history import History
from torch import Tensor

import sktriplet
from sktriplet._build import add_whitening, build_net, build_network
from sktriplet._input_layout import LAYOUTS
from sktriplet._input_statistics import ValueRange
from sktriplet._multi_input import MultiInputPreprocessor
from sktriplet._preprocessor import Preprocessor
from sktriplet._table_encoder import TableEncoder
from sktriplet.exceptions import InvalidParameterError
from sktriplet.training import TripletNet
from sktriplet.training._checkpoint import history_to_json
from sktriplet.training._device import resolve_device
from sktriplet.training._optimizer_state import (
    get_optimizer_state,
    load_optimizer_state,
    stateful_components,
)
from sktriplet.training._random_state import isolated_rng

# Attributes that are converted, or added, when an estimator is pickled.
NET, PARAMETERS, VERSION = "net_", "_fit_parameters", "_sktriplet_version"
PREPROCESSOR, CATEGORICAL = "_preprocessor", "categorical_features"
# Classes whose objects are stored as dicts of their attributes, and the key of the class's name.
STATE_CLASSES = {
    cls.__name__: cls
    for cls in (Preprocessor, MultiInputPreprocessor, TableEncoder, ValueRange, *LAYOUTS.values())
}
CLASS = "sktriplet class"


class ArrayStateEstimator(BaseEstimator):
    """An estimator whose ``net_`` is pickled as arrays.

    It has the parameters of :class:`~sktriplet.TripletEmbedder` and stores those of the last fit
    in ``_fit_parameters``, since they may have been changed afterwards. Only the template in
    ``net`` is taken from the current parameters: ``net=None`` drops what cannot be pickled.
    """

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if NET not in state:
            return state
        parameters = {name: value for name, value in state[PARAMETERS].items() if name != "net"}
        return _without_index(state) | {
            NET: net_state(state[NET]),
            PREPROCESSOR: _to_plain(state[PREPROCESSOR]),
            PARAMETERS: _without_index(parameters),
            VERSION: sktriplet.__version__,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if NET in state:
            state = state | self._restored(state)
        super().__setstate__(state)

    def _restored(self, state: dict[str, Any]) -> dict[str, Any]:
        name, version = type(self).__name__, state.get(VERSION, "an unknown version")
        if version != sktriplet.__version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=f"sktriplet.{name}",
                    current_sklearn_version=sktriplet.__version__,
                    original_sklearn_version=version,
                ),
                stacklevel=2,
            )
        try:
            parameters = state[PARAMETERS] | {"net": state["net"]}
            restored = {PREPROCESSOR: _from_plain(state[PREPROCESSOR])}
            return restored | {NET: restored_net(type(self)(**parameters), state | restored)}
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"This {name}, saved by sktriplet {version}, cannot be loaded: the file is "
                f"damaged, or the code of its module has changed. {error!r}"
            ) from error


def _without_index(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with the names of features in a list, since skops trusts no Index."""
    chosen = parameters[CATEGORICAL]
    return parameters | {CATEGORICAL: chosen.to_list() if hasattr(chosen, "to_list") else chosen}


def _to_plain(value: Any) -> Any:
    """Return an object, and those in its attributes, as dicts, because skops trusts no others."""
    if type(value) in STATE_CLASSES.values():
        return {CLASS: type(value).__name__} | _to_plain(vars(value))
    if isinstance(value, dict):
        return {name: _to_plain(item) for name, item in value.items()}
    return value.to_list() if hasattr(value, "to_list") else value  # a pandas Index


def _from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    attributes = {name: _from_plain(item) for name, item in value.items() if name != CLASS}
    if CLASS not in value:
        return attributes
    restored: Any = object.__new__(STATE_CLASSES[value[CLASS]])
    vars(restored).update(attributes)
    return restored


def net_state(net: TripletNet) -> dict[str, Any]:
    """Return the learned state of a net as arrays, numbers, and text."""
    return {
        # Not net.module_, which may be compiled or wrapped for distributed training.
        "weights": _to_arrays(dict(net.module.state_dict())),
        "components": {
            name: _to_arrays(dict(component.state_dict()))
            for name, component in stateful_components(net).items()
            if name != net._modules[0]
        },
        "optimizer": _to_arrays(get_optimizer_state(net)),
        "history": history_to_json(net.history),
        "seed": net.random_state,
    }


def restored_net(embedder: Any, attributes: dict[str, Any]) -> TripletNet:
    """Rebuild the net of an unfitted embedder with the parameters and attributes of its fit."""
    state = attributes[NET]
    try:
        device = resolve_device(embedder.device)
    except InvalidParameterError:
        device = torch.device("cpu")
        warnings.warn(
            f"The device {str(embedder.device)!r} is not available. The estimator is loaded on "
            "the CPU.",
            stacklevel=3,
        )
    preprocessor, seed = attributes[PREPROCESSOR], state["seed"]
    sample = None
    if isinstance(preprocessor, Preprocessor):
        # The edges of bins are stored with the weights, so any sample will do.
        sample = np.zeros((1, *preprocessor.network_layout.shape), np.float32)
    with isolated_rng(seed, device):
        network = build_network(embedder, sample, preprocessor, seed=seed)
        add_whitening(embedder, network, preprocessor, attributes["_n_features_out"])
        network.load_state_dict(_to_tensors(state["weights"]))
        net = build_net(embedder, network, random_state=seed, device=str(device)).initialize()
    net.load_components(_to_tensors(state["components"]))
    load_optimizer_state(net, _to_tensors(state["optimizer"]))
    net.history_ = History(json.loads(state["history"]))
    net.module.eval()
    return net


def _to_arrays(state: Any) -> Any:
    """Replace tensors by arrays, in nested dicts and lists."""
    if isinstance(state, Tensor):
        # NumPy has no bfloat16. float32 represents it exactly.
        wider = state.float() if state.dtype == torch.bfloat16 else state
        return wider.detach().cpu().numpy().copy()
    if isinstance(state, dict):
        return {key: _to_arrays(value) for key, value in state.items()}
    return [_to_arrays(value) for value in state] if isinstance(state, list) else state


def _to_tensors(state: Any) -> Any:
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state.copy())
    if isinstance(state, dict):
        return {key: _to_tensors(value) for key, value in state.items()}
    return [_to_tensors(value) for value in state] if isinstance(state, list) else state
