"""Distributed training: several processes that train one network on separate batches.

`torch.nn.parallel.DistributedDataParallel` gives all processes the same initial weights and
averages their gradients. This module divides the batches and checks that the processes agree.
A network without that wrapper is trained by its process alone.
"""

import pickle
from typing import Any
from zlib import crc32

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrap_ddp(module: Any) -> Any:
    """Return the module inside the wrapper, which hides its attributes."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def rank_and_world_size(module: nn.Module) -> tuple[int, int]:
    """Return the index of this process among those that train the module, and their number.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.training._distributed import rank_and_world_size
    >>> rank_and_world_size(torch.nn.Linear(2, 2))
    (0, 1)
    """
    if not isinstance(module, DistributedDataParallel):
        return 0, 1
    group = module.process_group
    return dist.get_rank(group), dist.get_world_size(group)


def check_same_on_all_ranks(module: nn.Module, **values: Any) -> None:
    """Check that all processes that train the module have the same values.

    Processes that disagree could wait for each other forever.

    Raises
    ------
    ValueError
        In all processes, naming the first value that differs.
    """
    if not isinstance(module, DistributedDataParallel):
        return
    checksums = {name: crc32(pickle.dumps(value)) for name, value in values.items()}
    gathered: list[Any] = [None] * dist.get_world_size(module.process_group)
    dist.all_gather_object(gathered, checksums, group=module.process_group)
    for name in values:
        n_different = len({item[name] for item in gathered})
        if n_different > 1:
            raise ValueError(
                f"The {len(gathered)} processes that train a network together must all receive "
                f"the same {name}. Got {n_different} different values."
            )


def broadcast_buffers(module: nn.Module) -> None:
    """Copy the buffers of the first process to all processes that train the module.

    Each forward pass does this too, but changes by the last one, such as the running
    statistics of batch normalization, stay in their process.
    """
    if not isinstance(module, DistributedDataParallel):
        return
    first = dist.get_global_rank(module.process_group, 0)
    for buffer in module.buffers():
        dist.broadcast(buffer, first, group=module.process_group)
