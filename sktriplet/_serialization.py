"""What of a fitted embedder goes into a file: arrays, numbers and text, and no tensors.

So a file is small, is loaded wherever there is a CPU, and asks a reader such as skops to trust
no class but the estimators' own. The network itself is not written down: it is made again as
in fit, and gets its weights back.
"""

import hashlib
import json
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from skorch.history import History
from torch import Tensor

import sktriplet
from sktriplet._build import build_net, build_network
from sktriplet.exceptions import InvalidParameterError, OtherVersionWarning
from sktriplet.training import TripletNet
from sktriplet.training._checkpoint import history_as_json
from sktriplet.training._device import validate_device
from sktriplet.training._random_state import isolated_rng

# Attributes that need more than writing down.
NET, PARAMETERS, VERSION = "net_", "_fit_parameters", "_sktriplet_version"


class ArrayStateEstimator(BaseEstimator):
    """An estimator whose ``net_`` is pickled as arrays.

    It has the parameters of :class:`~sktriplet.TripletEmbedder`, and keeps those of the last fit
    in ``_fit_parameters``: others may have been set since. Of the template in ``net`` the present
    one is taken, so that ``net=None`` leaves behind what cannot be pickled.
    """

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if NET not in state:
            return state
        parameters = {name: value for name, value in state[PARAMETERS].items() if name != "net"}
        return state | {
            NET: net_state(state[NET]),
            PARAMETERS: parameters,
            VERSION: sktriplet.__version__,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if NET in state:
            state = state | {NET: self._restored(state)}
        super().__setstate__(state)

    def _restored(self, state: dict[str, Any]) -> TripletNet:
        version = state.get(VERSION, "an unknown version")
        if version != sktriplet.__version__:
            warnings.warn(
                f"This {type(self).__name__} was saved by sktriplet {version} and is loaded by "
                f"{sktriplet.__version__}, which may make another thing of it. Fit it anew to be "
                "safe.",
                OtherVersionWarning,
                stacklevel=2,
            )
        try:
            parameters = state[PARAMETERS] | {"net": state["net"]}
            return restored_net(type(self)(**parameters), state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"This {type(self).__name__}, saved by sktriplet {version}, cannot be loaded: the "
                f"file is damaged, or made by code that has changed since. {error!r}"
            ) from error


def net_state(net: TripletNet) -> dict[str, Any]:
    """Return what a net has learned, in arrays, numbers and text.

    Parameters
    ----------
    net : TripletNet
        Trained, of a module that was already made when the net was.

    Returns
    -------
    dict
        ``weights`` of the module, ``optimizer`` with its momenta, so that training can go on,
        and ``optimizer_name``, ``history`` as JSON, ``seed``, and the ``digest`` of all arrays.
    """
    state = {
        # Not net.module_, which may be this module compiled, or shared among processes.
        "weights": _as_arrays(dict(net.module.state_dict())),
        "optimizer": _as_arrays(net.optimizer_.state_dict()),
        "optimizer_name": type(net.optimizer_).__name__,
        "history": history_as_json(net.history),
        "seed": net.random_state,
    }
    return state | {"digest": _digest(state)}


def restored_net(embedder: Any, attributes: dict[str, Any]) -> TripletNet:
    """Make the net of a fitted embedder again.

    Parameters
    ----------
    embedder : TripletEmbedder
        Unfitted, with the parameters that it was fitted with.

    attributes : dict
        What it has learned: ``input_shape_``, ``_moments`` and, from `net_state`, ``net_``.

    Raises
    ------
    ValueError
        If arrays are not what they were when they were saved.
    RuntimeError
        If the weights are those of another network.
    """
    state = attributes[NET]
    if _digest(state) != state["digest"]:
        raise ValueError("Its weights are not what they were when it was saved.")
    try:
        device = validate_device(embedder.device)
    except InvalidParameterError:
        device = torch.device("cpu")
        warnings.warn(
            f"The requested device {str(embedder.device)!r} is not here. It is loaded on the CPU.",
            stacklevel=3,
        )
    shape, seed = tuple(attributes["input_shape_"]), state["seed"]
    # Which columns are continuous is among the weights: any row will do.
    some_row = np.zeros((1, *shape), np.float32)
    with isolated_rng(seed, device):
        network = build_network(embedder, some_row, shape, attributes["_moments"], seed=seed)
        network.load_state_dict(_as_tensors(state["weights"]))
        net = build_net(embedder, network, random_state=seed, device=str(device)).initialize()
    if type(net.optimizer_).__name__ == state["optimizer_name"]:
        net.optimizer_.load_state_dict(_as_tensors(state["optimizer"]))
    net.history_ = History(json.loads(state["history"]))
    net.module.eval()
    return net


def _as_arrays(state: Any) -> Any:
    """Replace tensors by arrays, in dicts and lists of any depth."""
    if isinstance(state, Tensor):
        # NumPy does not know bfloat16. Each is a float32 too, and becomes itself again.
        wider = state.float() if state.dtype == torch.bfloat16 else state
        return wider.detach().cpu().numpy().copy()
    if isinstance(state, dict):
        return {key: _as_arrays(value) for key, value in state.items()}
    return [_as_arrays(value) for value in state] if isinstance(state, list) else state


def _as_tensors(state: Any) -> Any:
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state.copy())
    if isinstance(state, dict):
        return {key: _as_tensors(value) for key, value in state.items()}
    return [_as_tensors(value) for value in state] if isinstance(state, list) else state


def _digest(state: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for array in [*_arrays_in(state["weights"]), *_arrays_in(state["optimizer"])]:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _arrays_in(state: Any) -> list[NDArray]:
    if isinstance(state, np.ndarray):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [array for value in values for array in _arrays_in(value)]
