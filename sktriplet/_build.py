"""From an embedder's parameters to the network, and to the net that trains it."""

import copy
import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, issparse
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
from torch import nn

from sktriplet.augmentation import AUGMENTATIONS
from sktriplet.exceptions import InvalidParameterError
from sktriplet.networks import MLP, ConvNet, MLPEnsemble
from sktriplet.networks._embedding_network import ChannelsFirst, EmbeddingNetwork, Standardizer
from sktriplet.training import TripletNet
from sktriplet.training._data import as_tensor

# Fewer components than this would tie a member's hands.
MEMBER_WIDTH = 8


# A column with more values than this, in some rows, counts as continuous.
FEW_VALUES, SOME_ROWS = 10, 10_000


# Tables with more columns than this, mostly words, gain nothing from waves, eight for each column.
MOST_COLUMNS = 2_000


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
    "criterion__nca_weight": "nca_weight",
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
    # None sets nothing: skorch's nets for accelerate have no device of their own.
    given = {name: value for name, value in net.get_params(deep=False).items() if value is not None}
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


def merged_moments(
    known: StandardScaler | None, rows: NDArray | csr_array, input_shape: tuple[int, ...]
) -> StandardScaler:
    """Return means and deviations of features, or of images' channels, with more rows let in.

    In parts, since scikit-learn makes copies of what it is given.

    Parameters
    ----------
    known : StandardScaler or None
        The moments of earlier rows. It is left as it is.

    rows : ndarray of shape (n_rows, ...), or CSR matrix

    input_shape : tuple of int
        ``(n_features,)`` or ``(C, H, W)``.
    """
    # The network centres and scales. This one only has to know the moments, and it takes sparse
    # rows only if it need not centre them.
    moments = copy.deepcopy(known) or StandardScaler(with_mean=False)
    n_rows = rows.shape[0]
    for part in gen_batches(n_rows, max(1, 2**21 * n_rows // max(rows.size, 1))):
        some = rows[part]
        if len(input_shape) > 1:
            images = ChannelsFirst(input_shape)(as_tensor(some))
            some = images.movedim(1, -1).reshape(-1, input_shape[0]).numpy()
        elif issparse(some):
            # scikit-learn sums sparse rows in their own precision, dense ones in double, and older
            # ones know short indices only.
            indices, starts = some.indices.astype(np.int32), some.indptr.astype(np.int32)
            some = csr_array((some.data.astype(np.float64), indices, starts), shape=some.shape)
        moments.partial_fit(some)
    return moments


def build_network(
    embedder: Any,
    rows: NDArray | csr_array,
    input_shape: tuple[int, ...],
    moments: StandardScaler | None,
    *,
    seed: int,
    start: nn.Module | None = None,
) -> EmbeddingNetwork:
    """Make the network that an embedder trains.

    Parameters
    ----------
    embedder : TripletEmbedder

    rows : ndarray or CSR matrix
        To train on.

    input_shape : tuple of int
        ``(n_features,)`` or ``(C, H, W)``.

    moments : StandardScaler or None
        Of features or channels. None: inputs are not standardized.

    seed : int
        Of initial weights.

    start : nn.Module, default=None
        A network whose weights are where training starts.

    Raises
    ------
    InvalidParameterError
        If a parameter does not go with such inputs.
    ValueError
        If the weights to start from are those of another network.
    """
    is_image = len(input_shape) > 1
    module = embedder.module
    if isinstance(module, nn.Module):
        body = copy.deepcopy(module)
    elif module == "auto":
        generator = torch.Generator().manual_seed(seed)
        width = embedder.n_components
        if is_image:
            body = ConvNet(input_shape, width, generator=generator)
        else:
            body = _for_tables(embedder, rows, generator)
    else:
        body = _called(module, input_shape, embedder.n_components)
    if start is not None:
        try:
            body.load_state_dict(start.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"{type(embedder).__name__} cannot go on training a network of another shape: "
                f"n_components, hidden_layer_sizes, n_members and module must stay. {error}"
            ) from error
    augment = embedder.augment
    if isinstance(augment, str):
        if not is_image:
            raise InvalidParameterError(
                f"The 'augment' parameter can be a name for images only. Got {augment!r} and a "
                f"table of {input_shape[0]} features."
            )
        augment = AUGMENTATIONS[augment]
    standardizer = None
    if moments is not None:
        each = (-1, 1, 1) if is_image else (-1,)
        standardizer = Standardizer(moments.mean_.reshape(each), moments.scale_.reshape(each))
    return EmbeddingNetwork(
        body,
        layout=ChannelsFirst(input_shape) if is_image else None,
        augment=augment,
        standardizer=standardizer,
        normalize=embedder.normalize,
        precision=embedder.precision,
    )


def _called(module: Any, input_shape: tuple[int, ...], n_components: int | None) -> nn.Module:
    try:
        body = module(input_shape, n_components)
    except TypeError as error:
        raise InvalidParameterError(
            "The 'module' parameter must be callable with (input_shape, n_components). Calling it "
            f"with {input_shape} and {n_components} gave: {error}"
        ) from error
    if not isinstance(body, nn.Module):
        raise InvalidParameterError(
            f"The 'module' parameter must return a torch.nn.Module. Got {body!r} instead."
        )
    return body


def _for_tables(embedder: Any, rows: NDArray | csr_array, generator: torch.Generator) -> nn.Module:
    input_shape = rows.shape[1:]
    width, hidden_layer_sizes = embedder.n_components, embedder.hidden_layer_sizes
    n_members = min(embedder.n_members, width // MEMBER_WIDTH)
    if n_members < 2 or not hidden_layer_sizes:  # linear maps side by side are one
        return MLP(input_shape, width, hidden_layer_sizes, generator=generator)
    sees_waves = input_shape[0] <= MOST_COLUMNS
    some = rows[:: -(-rows.shape[0] // SOME_ROWS)]
    return MLPEnsemble(
        input_shape,
        width,
        hidden_layer_sizes,
        n_members=n_members,
        n_periodic=None if sees_waves else 0,
        is_continuous=_n_values(some) > FEW_VALUES if sees_waves else None,
        generator=generator,
    )


def _n_values(rows: NDArray | csr_array) -> NDArray[np.intp]:
    """Count the different values in each column."""
    if not issparse(rows):
        return np.array([len(np.unique(column)) for column in rows.T])
    n_rows, n_columns = rows.shape
    by_column = csc_array(rows)
    by_column.eliminate_zeros()
    n_stored = np.diff(by_column.indptr)
    # A column's number and a value in it make one complex number, to count both at once.
    pairs = np.unique(np.repeat(np.arange(n_columns), n_stored) + 1j * by_column.data)
    has_zeros = n_stored < n_rows
    return np.bincount(pairs.real.astype(np.intp), minlength=n_columns) + has_zeros


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
            nca_weight=embedder.nca_weight,
        ),
        **_accepted_by(template.optimizer, "optimizer", weight_decay=embedder.weight_decay),
    }
    # skorch takes a module that is already made in its constructor only.
    return type(template)(**(template.get_params(deep=False) | owned | settings))


def _accepted_by(component: Any, prefix: str, **settings: Any) -> dict[str, Any]:
    """Those settings that a component of the net takes, under skorch's names for them."""
    accepted = inspect.signature(component).parameters
    return {f"{prefix}__{name}": value for name, value in settings.items() if name in accepted}
