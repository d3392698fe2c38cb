"""Kill training at random times, and check that resumed training has the same result.

Half of the processes are killed after a random time, and the others while they write a checkpoint,
of which half is on the disk. `tests/training/test_checkpoint.py` runs a few cases:

    python tests/scripts/kill.py --kills 20
"""

import argparse
import io
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits, load_iris
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.datasets import LazySamples
from sktriplet.training import ResumableCheckpoint, TripletNet

MAX_EPOCHS = 6


def small_network(input_shape, n_components):
    """Return a network with batch statistics and dropout."""
    channels, height, width = input_shape
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(channels * height * width, n_components),
    )


def make_case(kind):
    """Return parameters of the embedder, samples, and labels."""
    if kind == "table":
        X, y = load_iris(return_X_y=True)
        return {"hidden_layer_sizes": (16,)}, X, y
    digits = load_digits()
    X, y = digits.images[:200].astype(np.uint8), digits.target[:200]
    parameters = {"module": small_network, "augment": "crop_erase", "early_stopping": True}
    return parameters, LazySamples(X) if kind == "lazy" else X, y


def train(kind, path, last_epoch=None):
    """Train with a checkpoint, and save the embeddings and the number of epochs that were loaded.

    With `last_epoch`, the process is killed while it writes the checkpoint of this epoch.
    """
    torch.set_num_threads(1)
    parameters, X, y = make_case(kind)
    save, n_saved = torch.save, 0

    def save_half(state, file):
        nonlocal n_saved
        n_saved += 1
        if n_saved != last_epoch:
            return save(state, file)
        buffer = io.BytesIO()
        save(state, buffer)
        file.write(buffer.getvalue()[: buffer.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_half
    net = TripletNet(callbacks=[ResumableCheckpoint(f"{path}.pt")])
    embedder = TripletEmbedder(
        16, max_epochs=MAX_EPOCHS, mining="random", net=net, random_state=0, **parameters
    ).fit(X, y)
    n_loaded = dict(embedder.net_.callbacks_)["ResumableCheckpoint"].n_epochs_loaded_
    np.savez(f"{path}.npz", embedded=embedder.transform(X), n_loaded=n_loaded)


def start(*arguments):
    """Train in a new process."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            train(*arguments)
            status = 0
        finally:
            os._exit(status)
    return child


def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check(kind, n_kills, folder):
    """Return how many of the runs that were killed end with the same result, and print each."""
    begin = time.perf_counter()
    if wait(start(kind, folder / "whole")):
        sys.exit("Training fails.")
    duration = time.perf_counter() - begin
    expected = np.load(folder / "whole.npz")["embedded"]
    moments, n_equal = random.Random(0), 0
    for number in range(n_kills):
        path = folder / str(number)
        if number % 2:
            moment = moments.randint(1, 3)
            status = wait(start(kind, path, moment))
            description = f"while writing epoch {moment}"
        else:
            moment = moments.uniform(0, duration)
            child = start(kind, path)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            status = wait(child)
            description = f"after {moment / duration:.0%} of the time"
        is_equal, n_loaded = False, "-"
        if wait(start(kind, path)) == 0:
            result = np.load(f"{path}.npz")
            n_loaded = int(result["n_loaded"])
            is_equal = np.array_equal(result["embedded"], expected)
            is_equal &= not Path(f"{path}.pt.new").exists()
        n_equal += is_equal
        killed = "killed" if status == -signal.SIGKILL else "ended"
        print(f"{kind:7} {killed:7} {description:27} {n_loaded:>6} {is_equal!s:>9}", flush=True)
    return n_equal


def main():
    """Check all kinds of data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--data", choices=["table", "images", "lazy"], nargs="*")
    arguments = parser.parse_args()
    kinds = arguments.data or ["table", "images", "lazy"]
    print(f"{'data':7} {'process':7} {'moment':27} {'loaded':>6} {'identical':>9}")
    with tempfile.TemporaryDirectory() as folder:
        n_equal = []
        for kind in kinds:
            (Path(folder) / kind).mkdir()
            n_equal.append(check(kind, arguments.kills, Path(folder) / kind))
    for kind, n in zip(kinds, n_equal, strict=True):
        print(f"{kind}: {n} of {arguments.kills} runs resume with the same result")
    sys.exit(sum(n_equal) < arguments.kills * len(kinds))


if __name__ == "__main__":
    main()
