"""Build the network, and the net that trains it, from the parameters of an embedder."""

import copy
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, issparse
from sklearn.base import clone
from torch import nn

from sktriplet._input_layout import ImageLayout, InputLayout, SequenceLayout, TableLayout
from sktriplet._multi_input import AnyPreprocessor, MultiInputPreprocessor
from sktriplet._preprocessor import Preprocessor
from sktriplet.augmentation import AUGMENTATIONS, affine
from sktriplet.exceptions import InvalidParameterError
from sktriplet.losses import TripletLoss
from sktriplet.networks import MLP, ConvNet, ConvNet1d, MLPEnsemble
from sktriplet.networks._embedding_network import (
    EmbeddingNetwork,
    MultiInputNetwork,
    Standardizer,
)
from sktriplet.networks._whitening import Whitening
from sktriplet.training import TripletNet
from sktriplet.training._data import BatchLoader
from sktriplet.training._net import MIN_BATCHES

# Minimum number of components per member of an ensemble.
MIN_COMPONENTS_PER_MEMBER = 8
# Bins of the piecewise-linear encoding per feature, and the subsample that determines them.
N_BINS, SUBSAMPLE_SIZE = 8, 10_000
# Wider tables, mostly of words, do not benefit from the encoding.
MAX_ENCODED_FEATURES = 2_000

# Parameters of the net that the embedder sets, with the embedder's parameter for each.
RESERVED_PARAMS = {
    "module": "module",
    "lr": "lr",
    "max_epochs": "max_epochs",
    "batch_size": "batch_size",
    "samples_per_class": "samples_per_class",
    "random_state": "random_state",
    "verbose": "verbose",
    "device": "device",
    "warm_start": "warm_start",
    "optimizer__lr": "lr",
    "optimizer__weight_decay": "weight_decay",
    "criterion__margin": "margin",
    "criterion__loss": "loss",
    "criterion__mining": "mining",
    "criterion__metric": "metric",
    "criterion__nca_weight": "nca_weight",
}
# Parameters that are not copied: the network, the learning rate, the seed and the device are
# resolved first, and "lr" also reaches the optimizer.
RESOLVED_PARAMS = ("module", "lr", "random_state", "device", "warm_start", "optimizer__lr")


def validate_template(embedder: Any) -> None:
    """Check the ``net`` of an embedder, and that its components accept the embedder's parameters.

    Raises
    ------
    InvalidParameterError
        If the net sets a parameter that the embedder sets, or if the criterion or the
        optimizer has no parameter for one of the embedder's that was changed from its default.
        The message names both.
    """
    owner, net = type(embedder).__name__, embedder.net or TripletNet()
    if isinstance(net.criterion, nn.Module):
        raise InvalidParameterError(
            f"The 'net' parameter holds an instance of a criterion, {net.criterion!r}. Pass its "
            f"class instead, because {owner} sets its parameters."
        )
    # None means not set: skorch's nets for accelerate have no device of their own.
    given = {name: value for name, value in net.get_params(deep=False).items() if value is not None}
    net_defaults = TripletNet().get_params(deep=False)
    changed = changed_params(embedder)
    if net.iterator_train is not BatchLoader and "samples_per_class" in changed:
        raise InvalidParameterError(
            f"The 'samples_per_class' parameter of {owner} has no effect with the iterator_train "
            f"of the net, {net.iterator_train.__name__}. Got {changed['samples_per_class']}."
        )
    for theirs, ours in RESERVED_PARAMS.items():
        component = theirs.partition("__")[0] if "__" in theirs else None
        is_set = theirs in given and (
            theirs not in net_defaults or given[theirs] != net_defaults[theirs]
        )
        if is_set and (component != "criterion" or _is_triplet_loss(net) or ours in changed):
            raise InvalidParameterError(
                f"The 'net' parameter sets {theirs}={given[theirs]!r}, but {owner} sets it from "
                f"its own parameter {ours!r}: remove it from the net, and pass {ours}=... to "
                f"{owner}."
            )
        if component and ours in changed and not _accepts(getattr(net, component), theirs):
            cls = getattr(net, component)
            raise InvalidParameterError(
                f"The {ours!r} parameter of {owner} has no effect: the {component} "
                f"{getattr(cls, '__name__', repr(cls))} has no such parameter. Got "
                f"{ours}={changed[ours]!r}; leave it at its default."
            )


def changed_params(embedder: Any) -> dict[str, Any]:
    """Return the parameters that differ from their defaults."""
    params = embedder.get_params(deep=False)
    return {
        name: params[name]
        for name, parameter in inspect.signature(type(embedder)).parameters.items()
        if name in params and not _is_equal(params[name], parameter.default)
    }


def _is_equal(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, list | tuple | np.ndarray) and tuple(value) == default
    return bool(value is default or (np.ndim(value) == 0 and value == default))


def _accepts(component: Callable, net_param: str) -> bool:
    """Return whether a component has a parameter, itself or in a base class by ``**kwargs``."""
    name = net_param.partition("__")[2]
    constructors = [component]
    if inspect.isclass(component):
        constructors = [cls for cls in component.__mro__ if "__init__" in vars(cls)]
    for constructor in constructors:
        parameters = inspect.signature(constructor).parameters
        if name in parameters:
            return True
        if not any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values()):
            return False
    # A function may pass on its **kwargs; the last class of a hierarchy cannot.
    return not inspect.isclass(component)


def _is_triplet_loss(net: TripletNet) -> bool:
    return inspect.isclass(net.criterion) and issubclass(net.criterion, TripletLoss)


def build_net(embedder: Any, network: EmbeddingNetwork, **settings: Any) -> TripletNet:
    """Build the net that trains a network; `settings` of the net take precedence.

    The criterion and the optimizer get those of the embedder's parameters that they accept. A
    parameter at its default does not replace the criterion's own default.
    """
    template = TripletNet() if embedder.net is None else clone(embedder.net)
    changed = changed_params(embedder)
    params: dict[str, Any] = {"module": network}
    for theirs, ours in RESERVED_PARAMS.items():
        component, _, name = theirs.partition("__")
        if theirs in RESOLVED_PARAMS or (
            name and not _accepts(getattr(template, component), theirs)
        ):
            continue
        if component == "criterion" and ours not in changed:
            continue
        params[theirs] = getattr(embedder, ours)
    params["verbose"] = int(embedder.verbose)
    schedule = DEFAULT_SCHEDULES.get(type(network.backbone), DEFAULT_SCHEDULE)
    params["lr"] = schedule.lr if isinstance(embedder.lr, str) else embedder.lr
    if template.min_batches is None:
        params["min_batches"] = schedule.min_batches
    # skorch accepts a module instance in its constructor only.
    return type(template)(**(template.get_params(deep=False) | params | settings))


def build_network(
    embedder: Any,
    X: Any,
    preprocessor: AnyPreprocessor,
    *,
    seed: int,
    start: EmbeddingNetwork | None = None,
) -> EmbeddingNetwork:
    """Build the network that an embedder trains.

    X holds training samples as the network receives them from a fitted `preprocessor`. Training
    starts from the weights of the network `start`, if there is one. If there are several inputs,
    the module is called with keyword arguments.

    Raises
    ------
    InvalidParameterError
        If a parameter has no effect on this network, or is not valid for this layout.
    ValueError
        If the weights to start from do not fit.
    """
    if isinstance(preprocessor, MultiInputPreprocessor):
        return _build_multi_input_network(embedder, preprocessor.parts, start)
    layout = preprocessor.network_layout
    with torch.device("cpu"):  # regardless of torch.set_default_device
        standardizer = _build_standardizer(preprocessor)
        backbone = _build_backbone(embedder, X, layout, standardizer, seed)
    _check_network_params(embedder, layout, backbone)
    if start is not None:
        _load_weights(backbone, start, standardizer, owner=type(embedder).__name__)
    return EmbeddingNetwork(
        backbone,
        input_layout=layout.converter(contiguous=not isinstance(embedder.module, str)),
        augment=_build_augmentation(embedder.augment, layout, preprocessor.holds_ids),
        scaler=standardizer,
        normalize=embedder.normalize,
        precision=embedder.precision,
        keeps_integers=preprocessor.holds_ids,
    )


def _build_multi_input_network(
    embedder: Any,
    parts: dict[str, Preprocessor],
    start: EmbeddingNetwork | None,
) -> MultiInputNetwork:
    augment = None if embedder.augment == "auto" else embedder.augment
    if isinstance(augment, str):
        raise InvalidParameterError(
            "The 'augment' parameter can be a name for images only. Got "
            f"{augment!r} and the inputs {list(parts)}."
        )
    with torch.device("cpu"):
        inputs = {
            name: EmbeddingNetwork(
                nn.Identity(),
                input_layout=part.network_layout.converter(contiguous=True),
                scaler=_build_standardizer(part),
                keeps_integers=part.holds_ids,
            )
            for name, part in parts.items()
        }
        if isinstance(embedder.module, nn.Module):
            backbone = copy.deepcopy(embedder.module)
        else:
            shapes = {name: part.network_layout.shape for name, part in parts.items()}
            backbone = _call_module_factory(embedder.module, shapes, embedder.n_components)
    _check_network_params(embedder, None, backbone)
    if start is not None:
        _load_weights(backbone, start, start.scaler, owner=type(embedder).__name__)
    return MultiInputNetwork(
        backbone,
        inputs,
        augment=augment,
        normalize=embedder.normalize,
        precision=embedder.precision,
    )


def _build_backbone(
    embedder: Any,
    X: NDArray | csr_array,
    layout: InputLayout,
    standardizer: Standardizer | None,
    seed: int,
) -> nn.Module:
    module = embedder.module
    if isinstance(module, nn.Module):
        return copy.deepcopy(module)
    if isinstance(module, str):
        generator = torch.Generator().manual_seed(seed)
        build, _ = DEFAULT_NETWORKS[type(layout)]
        return build(embedder, X, layout, standardizer, generator)
    return _call_module_factory(module, layout.shape, embedder.n_components)


def _build_tabular_network(
    embedder: Any,
    X: NDArray | csr_array,
    layout: TableLayout,
    standardizer: Standardizer | None,
    generator: torch.Generator,
) -> nn.Module:
    n_components = int(embedder.n_components)
    hidden_layer_sizes = tuple(np.atleast_1d(embedder.hidden_layer_sizes).astype(int).tolist())
    n_members = min(int(embedder.n_members), n_components // MIN_COMPONENTS_PER_MEMBER)
    if n_members < 2 or not hidden_layer_sizes:  # An ensemble of linear maps is a linear map.
        return MLP(layout.shape, n_components, hidden_layer_sizes, generator=generator)
    bin_edges = None
    if layout.shape[0] <= MAX_ENCODED_FEATURES:
        n_numbers = layout.shape[0] - layout.n_binary
        numbers = X[:: -(-X.shape[0] // SUBSAMPLE_SIZE), :n_numbers]
        bin_edges = np.ones((N_BINS + 1, layout.shape[0]), np.float32)
        bin_edges[0] = 0
        bin_edges[:, :n_numbers] = _quantile_edges(numbers)
        if standardizer is not None:
            bin_edges = standardizer(torch.from_numpy(bin_edges)).numpy()
        bin_edges = bin_edges.T
    return MLPEnsemble(
        layout.shape,
        n_components,
        hidden_layer_sizes,
        n_members=n_members,
        bin_edges=bin_edges,
        n_binary=layout.n_binary,
        generator=generator,
    )


def _quantile_edges(X: NDArray | csr_array) -> NDArray[np.float32]:
    """Return the edges of the bins of each feature, (N_BINS + 1, n_features).

    A feature with ties has fewer bins, and its last edge is repeated.
    """
    quantiles = np.linspace(0, 1, N_BINS + 1)
    edges = np.empty((N_BINS + 1, X.shape[1]), np.float32)
    by_column = csc_array(X) if issparse(X) else X
    for feature in range(X.shape[1]):
        column: Any = by_column[:, [feature]]
        values = column.toarray() if issparse(column) else column
        distinct = np.unique(np.quantile(values, quantiles).astype(np.float32))
        edges[: len(distinct), feature] = distinct
        edges[len(distinct) :, feature] = distinct[-1]
    return edges


def _build_convolutional_network(
    embedder: Any,
    X: NDArray | csr_array,
    layout: InputLayout,
    standardizer: Standardizer | None,
    generator: torch.Generator,
) -> nn.Module:
    network = ConvNet if isinstance(layout, ImageLayout) else ConvNet1d
    return network(layout.shape, int(embedder.n_components), generator=generator)


# The networks of module="auto", and the embedder's parameters that only they have.
DEFAULT_NETWORKS: dict[type[InputLayout], tuple[Callable, tuple[str, ...]]] = {
    TableLayout: (_build_tabular_network, ("hidden_layer_sizes", "n_members")),
    SequenceLayout: (_build_convolutional_network, ()),
    ImageLayout: (_build_convolutional_network, ()),
}


def add_whitening(
    embedder: Any, network: EmbeddingNetwork, preprocessor: AnyPreprocessor, n_components: int
) -> None:
    """Give a network, whose output has this width, the whitening that an embedder asks for."""
    whiten = embedder.whiten
    if isinstance(whiten, str):
        whiten = isinstance(getattr(preprocessor, "network_layout", None), ImageLayout)
    if whiten and embedder.normalize and n_components > 1:
        network.whitening = Whitening(n_components, network.n_members)


class Schedule(NamedTuple):
    """What ``lr="auto"`` means, and the minimum number of batches per epoch."""

    lr: float = 2e-3
    min_batches: int = MIN_BATCHES


# Networks need more steps, or larger ones, the more weights the same image passes through.
DEFAULT_SCHEDULE = Schedule()
DEFAULT_SCHEDULES: dict[type[nn.Module], Schedule] = {ConvNet: Schedule(lr=5e-3, min_batches=45)}


def _call_module_factory(module: Callable, input_shape: Any, n_components: int | None) -> nn.Module:
    try:
        backbone = module(input_shape, n_components)
    except TypeError as error:
        raise InvalidParameterError(
            "The 'module' parameter must be callable with (input_shape, n_components). Calling it "
            f"with {input_shape} and {n_components} raised: {error}"
        ) from error
    if not isinstance(backbone, nn.Module):
        raise InvalidParameterError(
            f"The 'module' parameter must return a torch.nn.Module. Got {backbone!r} instead."
        )
    return backbone


def _check_network_params(embedder: Any, layout: Any, backbone: nn.Module) -> None:
    """Check that parameters of the default networks have an effect on this one."""
    accepted: tuple[str, ...] = ()
    if isinstance(embedder.module, str):
        _, accepted = DEFAULT_NETWORKS[type(layout)]
    changed = changed_params(embedder)
    is_linear = isinstance(backbone, MLP) and not len(backbone.layers)
    if is_linear and embedder.n_members > 1:
        accepted = tuple(name for name in accepted if name != "n_members")
    for name in sorted({name for _, names in DEFAULT_NETWORKS.values() for name in names}):
        if name in changed and name not in accepted:
            raise InvalidParameterError(
                f"The {name!r} parameter of {type(embedder).__name__} has no effect: the network, "
                f"{type(backbone).__name__}, has no such parameter here. Got "
                f"{name}={changed[name]!r}; leave it at its default."
            )


def _load_weights(
    backbone: nn.Module, start: EmbeddingNetwork, standardizer: Standardizer | None, owner: str
) -> None:
    state = start.backbone.state_dict()
    if (start.scaler is None) != (standardizer is None):
        # Edges of bins are in the units of the features that the backbone receives.
        own = backbone.state_dict()
        state |= {name: own[name] for name in own if name.endswith("bin_edges")}
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{owner} cannot continue training a network of a different shape: n_components, "
            f"hidden_layer_sizes, n_members and module must not change. {error}"
        ) from error


def _build_augmentation(augment: Any, layout: InputLayout, holds_ids: bool) -> Callable | None:
    if augment == "auto":
        return affine if layout.has_named_augmentations and not holds_ids else None
    if not isinstance(augment, str):
        return augment
    if not layout.has_named_augmentations:
        raise InvalidParameterError(
            f"The 'augment' parameter can be a name for images only. Got {augment!r} and {layout}."
        )
    return AUGMENTATIONS[augment]


def _build_standardizer(preprocessor: Preprocessor) -> Standardizer | None:
    scaler, offset = preprocessor.scaler, preprocessor.offset
    if scaler is None:
        return None
    mean = scaler.mean_ if offset is None else scaler.mean_ - offset
    shape = preprocessor.network_layout.statistics_shape
    return Standardizer(mean.reshape(shape), scaler.scale_.reshape(shape))
