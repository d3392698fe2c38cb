"""Processes that train one network together, each on batches of its own.

torch's `DistributedDataParallel` around a network gives all of them the same first weights and
averages their gradients. Here is the rest: whose share is whose, and that all agree on the whole.
A network without it is trained by its process alone, whoever else there may be.
"""

import pickle
from typing import Any
from zlib import crc32

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrapped(module: Any) -> Any:
    """Return the module itself, whose attributes the wrapper hides."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def place_of(module: nn.Module) -> tuple[int, int]:
    """Return the rank of this process among those that train the module, and their number.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.training._distributed import place_of
    >>> place_of(torch.nn.Linear(2, 2))
    (0, 1)
    """
    if not isinstance(module, DistributedDataParallel):
        return 0, 1
    group = module.process_group
    return dist.get_rank(group), dist.get_world_size(group)


def check_agreement(module: nn.Module, **values: Any) -> None:
    """Check that all processes that train the module have the same values.

    Processes that do not agree may wait for each other forever.

    Raises
    ------
    ValueError
        In all of them, naming the first value that differs.
    """
    if not isinstance(module, DistributedDataParallel):
        return
    digests = {name: crc32(pickle.dumps(value)) for name, value in values.items()}
    given: list[Any] = [None] * dist.get_world_size(module.process_group)
    dist.all_gather_object(given, digests, group=module.process_group)
    for name in values:
        n_different = len({one[name] for one in given})
        if n_different > 1:
            raise ValueError(
                f"The {len(given)} processes that train a network together must all be given the "
                f"same {name}. Got {n_different} different ones."
            )


def share_buffers(module: nn.Module) -> None:
    """Give all processes that train the module the buffers of the first.

    Each forward pass does that too, but what the last one changed, such as the running
    statistics of batch normalisation, is each process's own.
    """
    if not isinstance(module, DistributedDataParallel):
        return
    first = dist.get_global_rank(module.process_group, 0)
    for buffer in module.buffers():
        dist.broadcast(buffer, first, group=module.process_group)
