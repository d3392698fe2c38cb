"""Train one network in several processes: ``torchrun train_together.py FOLDER DEVICE``.

`training/test_distributed.py` starts it and reads the reports that each process writes.
"""

import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from skorch.hf import AccelerateMixin

from sktriplet import TripletEmbedder
from sktriplet.training import TripletNet

SETTINGS = {
    "n_components": 32,
    "max_epochs": 4,
    "hidden_layer_sizes": (32,),
    "n_members": 2,
    "random_state": 0,
}


class AcceleratedTripletNet(AccelerateMixin, TripletNet):
    """A net that all processes started by torchrun train together."""


class CPUAccelerator(Accelerator):
    """Does not wrap criteria without parameters, which accelerate would do on CPUs."""

    def prepare_model(self, model, device_placement=None, evaluation_mode=False):
        is_trained = any(weight.requires_grad for weight in model.parameters())
        return super().prepare_model(model, device_placement, evaluation_mode or not is_trained)


class Recorder(Callback):
    """Records each batch, and a random number drawn before it."""

    def initialize(self):
        self.batches, self.draws = [], []

    def on_batch_begin(self, net, batch, training, **kwargs):
        self.batches.append(batch[0].numpy())
        self.draws.append(torch.rand(1).item())


def load_samples():
    X, y = load_digits(return_X_y=True)
    return X[:500].astype(np.float32), y[:500]


def state(embedder):
    return {name: value.cpu().numpy() for name, value in embedder.net_.module_.state_dict().items()}


def error_of(action):
    try:
        action()
    except ValueError as error:
        return str(error)


def main(folder, device):
    torch.set_num_threads(1)
    accelerator = CPUAccelerator(cpu=device == "cpu", device_placement=False)
    rank = accelerator.process_index
    X, y = load_samples()

    def embedder(callbacks=(), **settings):
        net = AcceleratedTripletNet(
            accelerator=accelerator, callbacks=list(callbacks), callbacks__print_log__sink=print
        )
        return TripletEmbedder(net=net, device=device, **(SETTINGS | settings))

    trained = embedder([("recorder", Recorder())]).fit(X, y)
    recorder = dict(trained.net_.callbacks_)["recorder"]
    stopped = embedder(early_stopping=True, n_iter_no_change=1, lr=0.3, max_epochs=9).fit(X, y)
    continued = embedder(warm_start=True, max_epochs=1).fit(X, y)
    report = {
        "seed": trained.net_.random_state,
        "batches": recorder.batches,
        "draws": recorder.draws,
        "state": state(trained),
        "history": trained.history_,
        "stopped": state(stopped),
        "scores": stopped.validation_scores_,
        "continued": state(continued.fit(X, y)),
        "another random_state": error_of(lambda: embedder(random_state=rank).fit(X, y)),
        "another y": error_of(lambda: embedder().fit(X, np.roll(y, rank))),
    }
    (Path(folder) / f"{rank}.pkl").write_bytes(pickle.dumps(report))
    if accelerator.is_main_process:
        (Path(folder) / "embedder.pkl").write_bytes(pickle.dumps(trained.set_params(net=None)))
    accelerator.end_training()


if __name__ == "__main__":
    # Import the module by name: its classes can then be unpickled elsewhere.
    from train_together import main

    main(*sys.argv[1:])
