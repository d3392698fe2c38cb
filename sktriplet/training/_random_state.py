"""Torch's global random generators and thread count, changed temporarily and restored."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch

from sktriplet.training._device import ACCELERATORS, accelerator_of


class _GlobalSetting:
    """A global setting of torch that is restored when the last user is done.

    Several fits may run in threads at the same time; the first one reads the value to restore.
    If each thread has its own value (`per_thread`), each restores it.
    """

    def __init__(self, read: Callable, write: Callable, *, per_thread: bool = False):
        self.read, self.write, self.per_thread = read, write, per_thread
        self.lock, self.n_users = Lock(), 0

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the value at the end of the block."""
        with self.lock:
            if self.n_users == 0:
                self.value = self.read()
            self.n_users += 1
        try:
            yield
        finally:
            with self.lock:
                self.n_users -= 1
                if self.n_users == 0 or self.per_thread:
                    self.write(self.value)


CPU_GENERATOR = _GlobalSetting(torch.get_rng_state, torch.set_rng_state)
DEVICE_GENERATORS = {
    name: _GlobalSetting(accelerator.get_rng_state, accelerator.set_rng_state)
    for name, accelerator in ACCELERATORS.items()
}
THREAD_COUNT = _GlobalSetting(torch.get_num_threads, torch.set_num_threads, per_thread=True)


@contextmanager
def isolated_rng(seed: int | None, device: Any) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it.

    With ``seed=None`` the global generators are used without change.
    """
    if seed is None:
        yield
        return
    on_device = DEVICE_GENERATORS.get(torch.device(device).type)
    with CPU_GENERATOR.restored(), on_device.restored() if on_device else nullcontext():
        seed_generators(seed, device)
        yield


def seed_generators(seed: int, device: Any) -> None:
    """Seed torch's generators on the CPU and on the given type of device only."""
    torch.default_generator.manual_seed(seed)
    accelerator = accelerator_of(device)
    if accelerator is not None:
        accelerator.manual_seed(seed)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one CPU thread inside the block.

    The rounding of batch normalization depends on the number of threads, and joblib's workers
    have fewer of them than the main process.
    """
    with THREAD_COUNT.restored():
        torch.set_num_threads(1)
        yield
