"""Optimizer state by parameter name, for resuming, checkpoints, and pickles.

torch identifies parameters by their position. Loading state that way after parameters were
regrouped assigns it to other parameters, and fused optimizers do not check shapes.
"""

import warnings
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from sktriplet.training._distributed import unwrap_ddp

# Settings of a parameter group that do not determine which state the optimizer has.
STATELESS_SETTINGS = {
    *("params", "lr", "initial_lr", "weight_decay", "maximize"),
    *("fused", "foreach", "capturable", "differentiable"),
}


def stateful_components(net: Any) -> dict[str, nn.Module]:
    """Return the modules and criteria of a net that have weights or buffers."""
    components = {
        name: unwrap_ddp(getattr(net, f"{name}_")) for name in net._modules + net._criteria
    }
    return {
        name: component
        for name, component in components.items()
        if isinstance(component, nn.Module) and component.state_dict()
    }


def named_parameters(net: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of a net's modules and criteria with unique names."""
    for attribute in net._modules + net._criteria:
        component = unwrap_ddp(getattr(net, f"{attribute}_"))
        if isinstance(component, nn.Module):
            for name, parameter in component.named_parameters():
                # torch.compile wraps modules.
                yield f"{attribute}.{name.replace('_orig_mod.', '')}", parameter


def get_optimizer_state(net: Any) -> dict[str, Any]:
    """Return the state of each parameter, and what determines whether it still fits."""
    return {
        "type": type(net.optimizer_).__name__,
        "parameters": {
            name: {
                "shape": list(parameter.shape),
                "settings": settings,
                "state": dict(net.optimizer_.state[parameter]),
            }
            for name, (parameter, settings) in _optimized(net).items()
            if parameter in net.optimizer_.state
        },
    }


def load_optimizer_state(net: Any, saved: dict[str, Any]) -> None:
    """Load state by parameter name. State that does not fit is dropped with a warning.

    It does not fit if its parameter is missing or has a different shape, or if the settings of its
    parameter group, such as ``amsgrad``, require other state. State of another optimizer class is
    dropped without a warning, because choosing another optimizer requires it.
    """
    optimizer = net.optimizer_
    if saved["type"] != type(optimizer).__name__:
        return
    optimized = list(_optimized(net).items())
    # torch numbers parameters in the order of their groups.
    loaded = {
        number: deepcopy(saved["parameters"][name]["state"])
        for number, (name, (parameter, settings)) in enumerate(optimized)
        if _fits(saved["parameters"].get(name), parameter, settings)
    }
    dropped = sorted(set(saved["parameters"]) - {optimized[number][0] for number in loaded})
    if dropped:
        warnings.warn(
            f"The optimizer state of {len(dropped)} of {len(saved['parameters'])} parameters no "
            f"longer fits and was dropped: {', '.join(dropped[:5])}"
            f"{', ...' if len(dropped) > 5 else ''}.",
            stacklevel=3,
        )
        if saved["type"] == "LBFGS":  # It has a single state for all parameters.
            return
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": loaded, "param_groups": groups})


def _fits(saved: dict[str, Any] | None, parameter: nn.Parameter, settings: Any) -> bool:
    return (
        saved is not None
        and saved["shape"] == list(parameter.shape)
        and saved["settings"] == settings
    )


def _optimized(net: Any) -> dict[str, tuple[nn.Parameter, dict[str, bool]]]:
    """Return, by name, the parameters that the optimizer updates, and their group's settings."""
    names = {parameter: name for name, parameter in named_parameters(net)}
    return {
        names.get(parameter, f"parameter {number} of group {i}"): (parameter, _settings(group))
        for i, group in enumerate(net.optimizer_.param_groups)
        for number, parameter in enumerate(group["params"])
    }


def _settings(group: dict[str, Any]) -> dict[str, bool]:
    return {
        name: bool(value.all() if isinstance(value, Tensor) else value)
        for name, value in group.items()
        if name not in STATELESS_SETTINGS
    }
