"""Export of fitted estimators to ONNX, for inference without PyTorch and scikit-learn."""

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
from sktriplet._multi_input import has_several_inputs

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

# Name of embedders in skl2onnx, and the domain of their operator until it is inlined.
ALIAS, DOMAIN = "TripletEmbedder", "sktriplet"
# Loggers to silence during export.
LOGGERS = ("torch", "onnxscript")


def to_onnx(estimator: Any, X: Any, **options: Any) -> ModelProto:
    """Export a fitted embedder, or a pipeline that contains one, to ONNX.

    The model accepts any number of samples. It returns the result of ``transform``, or labels and
    probabilities if the last step is a classifier. Networks run in single precision, regardless
    of the ``precision`` and device of the estimator, which is not changed.

    Parameters
    ----------
    estimator : TripletEmbedder or another estimator
        Fitted estimator. Other steps of a pipeline are exported by :func:`skl2onnx.to_onnx`, which
        supports `TripletEmbedder` once this module has been imported.
    X : array-like, sparse matrix or DataFrame of shape (n_samples, ...)
        One or more samples that determine the type and shape of the model's input. Each column
        of a DataFrame becomes a separate input. ONNX has no sparse matrices: if X is sparse,
        the model accepts dense samples.
    **options : dict
        Passed to :func:`skl2onnx.to_onnx`, such as ``target_opset`` or ``options``.

    Returns
    -------
    model : onnx.ModelProto
        The exported model.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator is a `PairVerifier` or an `OpenSetClassifier`.
    ValueError
        If X is not consistent with the training data, if an embedder has categorical features,
        or if torch cannot export a network.

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
    if hasattr(estimator, "estimator_") and hasattr(estimator, "threshold_"):
        raise TypeError(
            f"{type(estimator).__name__} cannot be exported to ONNX. Export its embedder, "
            "estimator.estimator_, and compare the Euclidean distances of embeddings with "
            f"estimator.threshold_, {estimator.threshold_:.4g}."
        )
    if has_several_inputs(X) or isinstance(getattr(estimator, "input_shape_", None), dict):
        raise ValueError("An embedder of several inputs cannot be exported to ONNX.")
    if hasattr(X, "columns"):
        validate_data(estimator, X, reset=False, skip_check_array=True)
        if hasattr(X, "iloc"):
            X = X.astype(
                {
                    name: np.float64  # skl2onnx has no type for nullable numbers.
                    for name, dtype in zip(X.columns, X.dtypes, strict=True)
                    if not isinstance(dtype, np.dtype) and dtype.kind in "biuf"
                }
            )
    else:
        X = X[:1].toarray() if issparse(X) else np.asarray(X)
    model = inline_local_functions(skl2onnx.to_onnx(estimator, X, **options))
    opsets = [opset for opset in model.opset_import if opset.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    return model


class _Transform(nn.Module):
    """The computation of ``transform``, for features that may come in several parts."""

    def __init__(self, embedder: TripletEmbedder):
        super().__init__()
        self.network: Any = copy.deepcopy(embedder.net_.module)
        self.network.precision = "float32"
        preprocessor: Any = embedder._preprocessor
        offset = preprocessor.offset
        self.offset = None if offset is None else torch.from_numpy(offset)
        self.dtype = torch.float32 if self.offset is None else torch.float64
        if self.network.keeps_integers:
            self.dtype = torch.int64
        self.encoder = preprocessor.encoder
        if self.encoder is not None:
            self.fill_values = torch.as_tensor(self.encoder.fill_values, dtype=self.dtype)
            self.with_indicator = torch.from_numpy(np.flatnonzero(self.encoder.has_indicator))

    def forward(self, *parts: Tensor) -> Tensor:
        X = torch.cat([part.to(self.dtype) for part in parts], dim=1)
        if self.encoder is not None and X.is_floating_point():
            is_missing = X.isnan()
            indicators = is_missing.index_select(1, self.with_indicator).to(self.dtype)
            X = torch.cat([torch.where(is_missing, self.fill_values, X), indicators], dim=1)
        if self.offset is not None:
            X = X - self.offset
        return self.network(X if self.network.keeps_integers else X.float()).float()


class _OrderedFunction(ModelComponentContainer):
    """A function whose nodes torch has already sorted.

    skl2onnx's own sorting fails if a node omits an optional input, as Resize and LSTM do, and
    ignores values that subgraphs take from the outer graph.
    """

    def ensure_topological_order(self) -> None:
        pass


def _parse(scope: Any, embedder: TripletEmbedder, inputs: list, custom_parsers: Any = None) -> Any:
    """Declare an embedder's output, which is in single precision for all types of inputs."""
    operator = scope.declare_local_operator(ALIAS, embedder)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("embedding", FloatTensorType()))
    return operator.outputs


def _zeros(operator: Any) -> list[NDArray]:
    """Return two samples of zeros, in the parts in which an embedder receives them."""
    parts = []
    for variable in operator.inputs:
        tensor = variable.type.to_onnx_type().tensor_type
        # Not every previous step declares its number of outputs.
        n_features = operator.raw_operator.n_features_in_
        sizes = [axis.dim_value or n_features for axis in tensor.shape.dim[1:]]
        parts.append(np.zeros((2, *sizes), tensor_dtype_to_np_dtype(tensor.elem_type)))
    return parts


def _calculate_shape(operator: Any) -> None:
    """Declare the shape of an embedder's output, using transform, which validates the input."""
    check_is_fitted(operator.raw_operator)
    encoder = operator.raw_operator._preprocessor.encoder
    if encoder is not None and encoder.has_categories:
        raise ValueError(
            f"{type(operator.raw_operator).__name__} cannot be exported to ONNX with categorical "
            "features. Encode them in a step before, for example with OneHotEncoder in a "
            "ColumnTransformer, which skl2onnx exports."
        )
    with warnings.catch_warnings(action="ignore"):  # the samples have no feature names
        embeddings = operator.raw_operator.transform(np.hstack(_zeros(operator)))
    n_samples = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = FloatTensorType([n_samples, embeddings.shape[1]])


def _convert(scope: Any, operator: Any, container: ModelComponentContainer) -> None:
    """Add an embedder to a model as a function, whose names cannot clash with others."""
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


def _exported_network(embedder: TripletEmbedder, samples: list[NDArray], opset: int) -> ModelProto:
    network = _Transform(embedder).cpu().eval()
    # Without a bound, torch 2.7 assumes that X[:, 0] differs at the largest representable number.
    any_number = {0: torch.export.Dim("n_samples", max=2**31 - 1)}
    with _quiet_export():
        try:
            # On its own, torch.onnx.export silently restricts the model to numbers of samples for
            # which the module takes the same branches; torch.export raises an error. Only strict
            # mode traces len(X).
            program = torch.export.export(
                network,
                tuple(map(torch.from_numpy, samples)),
                dynamic_shapes=((any_number,) * len(samples),),
                strict=True,
            )
            exported: Any = torch.onnx.export(
                program, dynamo=True, opset_version=opset, verbose=False
            )
        except Exception as error:  # Each stage has its own types of errors.
            module = type(network.network.backbone).__name__
            raise ValueError(
                f"{type(embedder).__name__} cannot be exported to ONNX: torch.export failed for "
                f"module {module}; see the error above."
            ) from error
        return exported.model_proto


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Suppress torch's own warnings and logs during export."""
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
