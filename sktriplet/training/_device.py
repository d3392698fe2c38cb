"""Supported accelerators, their selection, and their random generators."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from sktriplet.exceptions import InvalidParameterError


class Accelerator(NamedTuple):
    """Functions and properties of a type of device that training depends on."""

    is_available: Callable[[], bool]
    get_rng_state: Callable[[], Any]
    set_rng_state: Callable[[Any], None]
    manual_seed: Callable[[int], None]
    has_fused_adam: bool


# In the order in which device="auto" tries them.
ACCELERATORS = {
    "cuda": Accelerator(
        torch.cuda.is_available,
        torch.cuda.get_rng_state_all,
        torch.cuda.set_rng_state_all,
        torch.cuda.manual_seed_all,
        has_fused_adam=True,
    ),
    "mps": Accelerator(
        torch.backends.mps.is_available,
        torch.mps.get_rng_state,
        torch.mps.set_rng_state,
        torch.mps.manual_seed,
        has_fused_adam=False,
    ),
}


def resolve_device(device: str | torch.device) -> torch.device:
    """Replace ``"auto"`` by the first available accelerator or the CPU, and check other devices.

    Raises
    ------
    InvalidParameterError
        If torch does not know the device, or if it is not available.
    """
    if device == "auto":
        available = (name for name, item in ACCELERATORS.items() if item.is_available())
        return torch.device(next(available, "cpu"))
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidParameterError(
            "The 'device' parameter must be 'auto' or a device that is available to torch, "
            f"such as 'cpu'. Got {device!r} instead: {error}"
        ) from error
    return torch.device(device)


def accelerator_of(device: Any) -> Accelerator | None:
    """Return the accelerator that a device belongs to; None for the CPU."""
    return ACCELERATORS.get(torch.device(device).type)


def has_fused_adam(device: Any) -> bool:
    """Return whether torch's fused Adam and AdamW support a device."""
    accelerator = accelerator_of(device)
    return torch.device(device).type == "cpu" or bool(accelerator and accelerator.has_fused_adam)
