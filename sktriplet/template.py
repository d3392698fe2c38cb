"""The ``net`` parameter: what a template may set, and the net that is made from it."""

import inspect
from typing import Any

from sklearn.base import clone
from torch import nn

from sktriplet.exceptions import InvalidParameterError
from sktriplet.net import TripletNet

# Parameters of the net, to the embedder's parameter that sets each.
OWNED = {
    "module": "module",
    "lr": "lr",
    "max_epochs": "max_epochs",
    "batch_size": "batch_size",
    "samples_per_class": "samples_per_class",
    "random_state": "random_state",
    "verbose": "verbose",
    "device": "device",
    "warm_start": "warm_start",
    "criterion__margin": "margin",
    "criterion__loss": "loss",
    "criterion__mining": "mining",
    "criterion__metric": "metric",
    "optimizer__lr": "lr",
    "optimizer__weight_decay": "weight_decay",
}


def validate_template(net: TripletNet, owner: str) -> None:
    """Check that a template leaves alone what the estimator around it sets.

    Parameters
    ----------
    net : TripletNet

    owner : str
        Name of the estimator's class.

    Raises
    ------
    InvalidParameterError
        Naming both parameters.
    """
    given = net.get_params(deep=False)
    defaults = TripletNet().get_params(deep=False)
    for theirs, ours in OWNED.items():
        if theirs in given and (theirs not in defaults or given[theirs] != defaults[theirs]):
            raise InvalidParameterError(
                f"The 'net' parameter sets {theirs}={given[theirs]!r}, which {owner} sets "
                f"itself: leave it out of the net and pass {ours}=... to {owner}."
            )
    if isinstance(net.criterion, nn.Module):
        raise InvalidParameterError(
            f"The 'net' parameter holds a criterion that is already made, "
            f"{net.criterion!r}: pass its class, so that {owner} can set its parameters."
        )


def build_net(embedder: Any, network: nn.Module, **settings: Any) -> TripletNet:
    """Make the net that an embedder trains.

    Parameters
    ----------
    embedder : TripletEmbedder
        Its parameters are the net's, and its ``net``, if there is one, says the rest.

    network : nn.Module

    **settings
        Parameters of the net that come before both.
    """
    template = TripletNet() if embedder.net is None else clone(embedder.net)
    owned = {
        "module": network,
        "lr": embedder.lr,
        "max_epochs": embedder.max_epochs,
        "batch_size": embedder.batch_size,
        "samples_per_class": embedder.samples_per_class,
        "verbose": int(embedder.verbose),
        **_accepted_by(
            template.criterion,
            "criterion",
            margin=embedder.margin,
            loss=embedder.loss,
            mining=embedder.mining,
            metric=embedder.metric,
        ),
        **_accepted_by(template.optimizer, "optimizer", weight_decay=embedder.weight_decay),
    }
    # skorch takes a module that is already made in its constructor only.
    return type(template)(**(template.get_params(deep=False) | owned | settings))


def _accepted_by(component: Any, prefix: str, **settings: Any) -> dict[str, Any]:
    """Those settings that a component of the net takes, under skorch's names for them."""
    accepted = inspect.signature(component).parameters
    return {f"{prefix}__{name}": value for name, value in settings.items() if name in accepted}
