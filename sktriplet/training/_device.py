"""TODO."""

import torch

from sktriplet.exceptions import InvalidParameterError


def validate_device(device: str | torch.device) -> torch.device:
    """Resolve ``"auto"`` to CUDA, then MPS, then CPU, and check that a device is there.

    Raises
    ------
    InvalidParameterError
        If torch does not know the device, or this machine does not have it.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidParameterError(
            f"The 'device' parameter must be 'auto', or a device that torch has on this "
            f"machine, such as 'cpu'. Got {device!r} instead: {error}"
        ) from error
    return torch.device(device)
