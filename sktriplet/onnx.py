"""Export to ONNX: what was fitted, to be run without any of the packages that fitted it."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sktriplet._embedder import TripletEmbedder

try:
    import onnxscript  # noqa: F401  (torch exports with it)
    import skl2onnx
    from onnx import ModelProto
    from onnx.helper import tensor_dtype_to_np_dtype
    from onnx.inliner import inline_local_functions
    from skl2onnx.common._container import ModelComponentContainer
    from skl2onnx.common.data_types import FloatTensorType
except ImportError as error:
    raise ImportError(
        "sktriplet.onnx needs onnx, onnxscript and skl2onnx: pip install sktriplet[onnx]"
    ) from error

# What an embedder is called among skl2onnx's steps, and the home of its operator until that is
# laid out in ONNX's own.
ALIAS, DOMAIN = "TripletEmbedder", "sktriplet"
# Who would speak of the export while it goes on.
LOGGERS = ("torch", "onnxscript")


def to_onnx(estimator: Any, X: Any, **options: Any) -> ModelProto:
    """Export a fitted embedder, or a pipeline that holds one.

    The model takes any number of rows. It gives what ``transform`` gives for them, or labels and
    probabilities where the last step is a classifier. Networks compute in single precision in it,
    whatever their ``precision`` and device were. The estimator is left as it is.

    Parameters
    ----------
    estimator : TripletEmbedder or another estimator
        Fitted. Whatever stands around the embedders is exported by :func:`skl2onnx.to_onnx`, which
        knows what a `TripletEmbedder` is once this module has been imported.

    X : array-like, sparse matrix or DataFrame of shape (n_samples, ...)
        A row or more like those that the model is to be given. The type of the model's input and
        the shape of its rows are those of X; each column of a data frame is an input of its own.
        ONNX has no sparse matrices: the model of one takes such rows as dense ones.

    **options
        Passed on to :func:`skl2onnx.to_onnx`, such as ``target_opset`` or ``options``.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If X does not hold rows as in fit, or torch cannot export a network.

    Examples
    --------
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_iris
    >>> from sktriplet import TripletEmbedder
    >>> from sktriplet.onnx import to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> embedder = TripletEmbedder(hidden_layer_sizes=(), max_epochs=1).fit(X, y)
    >>> session = InferenceSession(to_onnx(embedder, X[:1]).SerializeToString())
    >>> (embeddings,) = session.run(["embedding"], {"X": X})
    >>> embeddings.shape
    (150, 64)
    """
    check_is_fitted(estimator)
    if hasattr(X, "columns"):
        validate_data(estimator, X, reset=False, skip_check_array=True)
    else:
        X = X[:1].toarray() if issparse(X) else np.asarray(X)
    model = inline_local_functions(skl2onnx.to_onnx(estimator, X, **options))
    opsets = [opset for opset in model.opset_import if opset.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    return model


class _Transform(nn.Module):
    """What ``transform`` does with rows, whose columns may come in several parts."""

    def __init__(self, embedder: TripletEmbedder):
        super().__init__()
        self.network: Any = copy.deepcopy(embedder.net_.module)
        self.network.precision = "float32"

    def forward(self, *parts: Tensor) -> Tensor:
        return self.network(torch.cat([part.float() for part in parts], dim=1)).float()


class _OrderedFunction(ModelComponentContainer):
    """A function whose nodes torch has put in order.

    skl2onnx would order them anew. It gets stuck where a node leaves out an optional input, as
    Resize and LSTM do, and does not see what subgraphs take from around them.
    """

    def ensure_topological_order(self) -> None:
        pass


def _parse(scope: Any, embedder: TripletEmbedder, inputs: list, custom_parsers: Any = None) -> Any:
    """Declare an embedder's output: in single precision, whatever the inputs are in."""
    operator = scope.declare_local_operator(ALIAS, embedder)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("embedding", FloatTensorType()))
    return operator.outputs


def _zeros(operator: Any) -> list[NDArray]:
    """Make two rows of zeros, in the parts in which rows come to an embedder."""
    parts = []
    for variable in operator.inputs:
        tensor = variable.type.to_onnx_type().tensor_type
        # Not every step before it says how many columns it makes.
        n_features = operator.raw_operator.n_features_in_
        sizes = [axis.dim_value or n_features for axis in tensor.shape.dim[1:]]
        parts.append(np.zeros((2, *sizes), tensor_dtype_to_np_dtype(tensor.elem_type)))
    return parts


def _calculate_shape(operator: Any) -> None:
    """Tell the shape of an embedder's output, by way of transform: it checks what it is given."""
    check_is_fitted(operator.raw_operator)
    with warnings.catch_warnings(action="ignore"):  # names of features are not there to check
        embeddings = operator.raw_operator.transform(np.hstack(_zeros(operator)))
    n_rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = FloatTensorType([n_rows, embeddings.shape[1]])


def _convert(scope: Any, operator: Any, container: ModelComponentContainer) -> None:
    """Add an embedder to a model as a function: no name in it can clash with another."""
    opset = container.target_opset_any_domain("")
    model = _exported_network(operator.raw_operator, _zeros(operator), opset)
    opsets = {(entry.domain, entry.version) for entry in model.opset_import}
    function = _OrderedFunction(dict(opsets), as_function=True)
    function.inputs = list(model.graph.input)
    function.outputs = list(model.graph.output)
    function.initializers = list(model.graph.initializer)
    function.nodes = list(model.graph.node)
    function.node_domain_version_pair_sets = opsets
    name = operator.full_name
    container.make_local_function(DOMAIN, name, function)
    container.node_domain_version_pair_sets |= opsets
    inputs, outputs = operator.input_full_names, operator.output_full_names
    container.add_node(name, inputs, outputs, op_domain=DOMAIN, op_version=1, name=name)


def _exported_network(embedder: TripletEmbedder, rows: list[NDArray], opset: int) -> ModelProto:
    network = _Transform(embedder).cpu().eval()
    # Without a bound, torch 2.7 says of X[:, 0] that it differs for one number, the largest of all.
    any_number = {0: torch.export.Dim("n_rows", max=2**31 - 1)}
    with _silence():
        try:
            # Left to itself, torch.onnx.export settles for those numbers of rows for which a
            # module does as it did with this one; torch.export refuses. Only strictly does it
            # know len(X) for what it is.
            program = torch.export.export(
                network,
                tuple(map(torch.from_numpy, rows)),
                dynamic_shapes=((any_number,) * len(rows),),
                strict=True,
            )
            exported: Any = torch.onnx.export(
                program, dynamo=True, opset_version=opset, verbose=False
            )
        except Exception as error:  # each stage has kinds of its own
            module = type(network.network.body).__name__
            raise ValueError(
                f"{type(embedder).__name__} cannot be exported to ONNX: torch gave up on its "
                f"module, {module}, for the reason above."
            ) from error
        return exported.model_proto


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what torch warns of and logs on its way from users: it is about torch itself."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in LOGGERS}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


skl2onnx.update_registered_converter(
    TripletEmbedder, ALIAS, _calculate_shape, _convert, parser=_parse
)
