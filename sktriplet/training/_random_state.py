"""The training loop: skorch's, fed with balanced batches and a triplet loss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch


class _Global:
    """Something of torch's that trainings change, and that is as before when they are over.

    Trainings may overlap, in threads: the one that begins first knows how it was before.

    Parameters
    ----------
    read, write : callable

    of_thread : bool, default=False
        Whether each thread has its own, and must put it back for itself.
    """

    def __init__(self, read: Callable, write: Callable, *, of_thread: bool = False):
        self.read, self.write, self.of_thread = read, write, of_thread
        self.lock, self.n_users = Lock(), 0

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Put it back when the last one leaves."""
        with self.lock:
            if self.n_users == 0:
                self.before = self.read()
            self.n_users += 1
        try:
            yield
        finally:
            with self.lock:
                self.n_users -= 1
                if self.n_users == 0 or self.of_thread:
                    self.write(self.before)


CPU_GENERATOR = _Global(torch.get_rng_state, torch.set_rng_state)


DEVICE_GENERATORS = {
    "cuda": _Global(torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all),
    "mps": _Global(torch.mps.get_rng_state, torch.mps.set_rng_state),
}


N_THREADS = _Global(torch.get_num_threads, torch.set_num_threads, of_thread=True)


@contextmanager
def isolated_rng(seed: int | None, device: Any) -> Iterator[None]:
    """Seed torch inside, and put its global generators back outside.

    With ``seed=None`` the global generators are used as they are.
    """
    if seed is None:
        yield
        return
    on_device = DEVICE_GENERATORS.get(torch.device(device).type)
    with CPU_GENERATOR.put_back(), on_device.put_back() if on_device else nullcontext():
        seed_generators(seed, device)
        yield


def seed_generators(seed: int, device: Any) -> None:
    """Seed torch's generators on the CPU and on one kind of device, and on no other."""
    torch.default_generator.manual_seed(seed)
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif kind == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one CPU thread inside, on as many as before outside.

    Batch normalisation rounds otherwise on another number of threads, and joblib's
    workers have fewer of them than the main process.
    """
    with N_THREADS.put_back():
        torch.set_num_threads(1)
        yield
