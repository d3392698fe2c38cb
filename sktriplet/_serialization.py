"""Pickling of fitted embedders as arrays, numbers, and text, without tensors.

Files are small, can be loaded on machines without the original device, and require no trusted
types in skops other than the estimators. The network is not stored: it is rebuilt from
the parameters and loads its weights.
"""

import copy
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
from sktriplet._input_layout import TableLayout, layout_of
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
ENCODER, CATEGORICAL, INPUTS = "_encoder", "categorical_features", "inputs"


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
            ENCODER: _encoder_state(state[ENCODER]),
            PARAMETERS: _without_index(parameters),
            VERSION: sktriplet.__version__,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if NET in state:
            state = state | {ENCODER: _restored_encoder(state.get(ENCODER))}
            state[NET] = self._restored_net(state)
        super().__setstate__(state)

    def _restored_net(self, state: dict[str, Any]) -> TripletNet:
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
            return restored_net(type(self)(**parameters), state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"This {name}, saved by sktriplet {version}, cannot be loaded: the file is "
                f"damaged, or the code of its module has changed. {error!r}"
            ) from error


def _without_index(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with the names of features in a list, since skops trusts no Index."""
    chosen = parameters[CATEGORICAL]
    return parameters | {CATEGORICAL: chosen.to_list() if hasattr(chosen, "to_list") else chosen}


def _encoder_state(encoder: Any) -> Any:
    """Return the attributes of an encoder, or of those of several inputs."""
    if isinstance(encoder, dict):
        return {INPUTS: {name: _encoder_state(part) for name, part in encoder.items()}}
    return None if encoder is None else vars(encoder)


def _restored_encoder(attributes: dict[str, Any] | None) -> Any:
    if attributes is None:
        return None
    if INPUTS in attributes:
        return {name: _restored_encoder(part) for name, part in attributes[INPUTS].items()}
    encoder = TableEncoder()
    vars(encoder).update(attributes)
    return encoder


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
    shape, seed = attributes["input_shape_"], state["seed"]
    layout: Any = _restored_layout(embedder, shape, attributes[ENCODER])
    # The edges of bins are stored with the weights, so any sample will do.
    sample = None if isinstance(shape, dict) else np.zeros((1, *layout.shape), np.float32)
    with isolated_rng(seed, device):
        scaler, offset = attributes["_scaler"], attributes["_offset"]
        network = build_network(
            embedder,
            sample,
            layout,
            scaler,
            seed=seed,
            offset=offset,
            keeps_integers=attributes.get("_holds_integers", False),
        )
        add_whitening(embedder, network, attributes["_n_features_out"])
        network.load_state_dict(_to_tensors(state["weights"]))
        net = build_net(embedder, network, random_state=seed, device=str(device)).initialize()
    net.load_components(_to_tensors(state["components"]))
    load_optimizer_state(net, _to_tensors(state["optimizer"]))
    net.history_ = History(json.loads(state["history"]))
    net.module.eval()
    return net


def _restored_layout(embedder: Any, shape: Any, encoder: Any) -> Any:
    if isinstance(shape, dict):
        shapes = embedder.input_shape or {}
        return {
            name: _restored_layout(
                copy.copy(embedder).set_params(input_shape=shapes.get(name)),
                shape[name],
                encoder[name],
            )
            for name in shape
        }
    embedder.input_shape_ = tuple(shape)
    layout = layout_of(embedder)
    return TableLayout.from_encoder(encoder) if layout.is_table else layout


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
