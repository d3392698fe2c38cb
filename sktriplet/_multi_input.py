"""One input or several: a dict of X has a `Preprocessor` per key."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.sparse import issparse
from skorch.helper import SliceDict
from torch.utils.data import Dataset

from sktriplet._input_layout import INPUT_SHAPES
from sktriplet._lazy_samples import LazySamples
from sktriplet._preprocessor import Preprocessor
from sktriplet.exceptions import InvalidParameterError


class MultiInputPreprocessor:
    """Prepares several inputs of a custom module, each like the only one.

    Methods are those of `Preprocessor`; attributes are dicts.
    """

    def __init__(self, parts: dict[str, Preprocessor]):
        self.parts = parts

    feature_names = None

    @property
    def shape(self) -> dict[str, tuple[int, ...]]:
        """Shape of a sample of each input."""
        return {name: part.shape for name, part in self.parts.items()}

    @property
    def n_features(self) -> int:
        """Number of features of all inputs."""
        return sum(part.n_features for part in self.parts.values())

    def encode_training(self, X: Any, owner: Any, **settings: Any) -> SliceDict:
        """Validate and encode training samples."""
        return self._for_each("encode_training", X, owner, **settings)

    def fit_convert(self, X: Any, *, update: bool) -> SliceDict:
        """Learn the statistics of encoded training samples, and convert them."""
        return self._for_each("fit_convert", X, update=update)

    def encode(self, X: Any, owner: Any) -> SliceDict:
        """Validate and encode samples."""
        return self._for_each("encode", X, owner)

    def convert(self, X: Any) -> SliceDict:
        """Return encoded samples as the network receives them."""
        return self._for_each("convert", X)

    def becomes_dense(self, X: Any) -> bool:
        """Return False, because sparse inputs become dense one at a time."""
        return False

    def _for_each(self, method: str, X: Any, *args: Any, **kwargs: Any) -> SliceDict:
        prepared = {}
        for name, part in self.parts.items():
            with _named_input(name):
                prepared[name] = getattr(part, method)(X[name], *args, **kwargs)
        return SliceDict(**prepared)


AnyPreprocessor = Preprocessor | MultiInputPreprocessor


def has_several_inputs(X: Any) -> bool:
    """Return whether X is a dict of inputs, and not a sparse matrix in scipy's dok format."""
    return isinstance(X, Mapping) and not issparse(X)


def wrap_datasets(X: Any) -> Any:
    """Return torch's datasets, alone or among several inputs, as lazy samples."""
    if has_several_inputs(X):
        return {name: wrap_datasets(part) for name, part in X.items()}
    return LazySamples(X) if isinstance(X, Dataset) else X


def make_preprocessor(embedder: Any, X: Any, fitted: AnyPreprocessor | None) -> AnyPreprocessor:
    """Return the preprocessor of X with an embedder's parameters, to fit or to continue.

    Raises
    ------
    InvalidParameterError
        If the parameters do not refer to the inputs in X.
    ValueError
        If X does not have the inputs of the earlier fit.
    """
    if fitted is not None:
        _check_same_inputs(fitted, X)
    accepts_module_ids = not isinstance(embedder.module, str)
    if not has_several_inputs(X):
        _check_no_names(embedder, X)
        new: Any = Preprocessor(
            input_shape=embedder.input_shape,
            standardize=embedder.standardize,
            categorical_features=embedder.categorical_features,
            accepts_ids=accepts_module_ids and not embedder.standardize,
        )
        return new if fitted is None else fitted.continued(new)  # type: ignore[union-attr]
    _check_names(embedder, X)
    _check_lengths(X)
    _check_parameters(embedder, X)
    parts = {}
    for name in X:
        chosen = embedder.standardize
        standardize = chosen if isinstance(chosen, bool | np.bool_) else name in chosen
        parts[name] = Preprocessor(
            input_shape=(embedder.input_shape or {}).get(name),
            standardize=bool(standardize),
            categorical_features=embedder.categorical_features,
            accepts_ids=accepts_module_ids and not standardize,
        )
        if fitted is not None:
            with _named_input(name):
                parts[name] = fitted.parts[name].continued(parts[name])  # type: ignore[union-attr]
    return MultiInputPreprocessor(parts)


def encode_samples(preprocessor: AnyPreprocessor, X: Any, owner: Any) -> Any:
    """Validate and encode samples of one input or several.

    Raises
    ------
    TypeError, ValueError
        If X is invalid, or does not have the inputs of fit.
    """
    X = wrap_datasets(X)
    _check_same_inputs(preprocessor, X)
    if has_several_inputs(X):
        _check_lengths(X)
    return preprocessor.encode(X, owner)


def _check_same_inputs(preprocessor: AnyPreprocessor, X: Any) -> None:
    """Check that X is a dict with the same keys as in fit, or not a dict."""
    is_dict, keys = has_several_inputs(X), None
    if isinstance(preprocessor, MultiInputPreprocessor):
        keys = list(preprocessor.parts)
    if is_dict == (keys is not None) and (keys is None or set(X) == set(keys)):
        return
    expected = "one array" if keys is None else f"a dict with the keys {keys}"
    got = f"a dict with the keys {list(X)}" if is_dict else type(X).__name__
    raise ValueError(f"X must be {expected}, as in fit. Got {got}.")


def _check_no_names(embedder: Any, X: Any) -> None:
    for name in ("input_shape", "standardize"):
        value = getattr(embedder, name)
        is_list = name == "standardize" and isinstance(value, Sequence | np.ndarray)
        if isinstance(value, dict) or is_list:
            raise InvalidParameterError(
                f"The {name!r} parameter can name keys only if X is a dict of several inputs. Got "
                f"{value!r} and {type(X).__name__}."
            )


def _check_names(embedder: Any, X: Any) -> None:
    if isinstance(embedder.module, str):
        raise InvalidParameterError(
            f"The 'module' parameter of {type(embedder).__name__} must be a custom one if X is a "
            f"dict of several inputs: it is called with the keyword arguments {list(X)}. Got "
            f"{embedder.module!r}."
        )
    if not X or not all(isinstance(name, str) and name.isidentifier() for name in X):
        raise ValueError(
            "The keys of X must be names of arguments of the module's forward method. Got "
            f"{list(X)}."
        )


def _check_lengths(X: Any) -> None:
    n_samples = {name: (np.shape(part) or (0,))[0] for name, part in X.items()}
    if len(set(n_samples.values())) > 1:
        raise ValueError(f"All inputs in X must have the same number of samples. Got {n_samples}.")


def _check_parameters(embedder: Any, X: Any) -> None:
    for parameter in ("input_shape", "standardize"):
        value = getattr(embedder, parameter)
        if not (value is None or isinstance(value, bool | np.bool_)) and not (
            set(value) <= set(X) and isinstance(value, dict) == (parameter == "input_shape")
        ):
            raise InvalidParameterError(
                f"The {parameter!r} parameter must refer to the keys {list(X)} of X. Got {value!r}."
            )
    for name, shape in (embedder.input_shape or {}).items():
        if not any(constraint.is_satisfied_by(shape) for constraint in INPUT_SHAPES):
            raise InvalidParameterError(
                "The 'input_shape' parameter must hold (channels, length) or (channels, height, "
                f"width). Got {shape!r} for {name!r}."
            )
    chosen = embedder.categorical_features
    if not (chosen is None or isinstance(chosen, str)):
        raise InvalidParameterError(
            "The 'categorical_features' parameter must be 'from_dtype' or None if X is a dict of "
            f"several inputs. Got {chosen!r}."
        )


@contextmanager
def _named_input(name: str) -> Iterator[None]:
    """Begin errors with the name of one of several inputs."""
    try:
        yield
    except (TypeError, ValueError) as error:
        types = (InvalidParameterError, TypeError, ValueError)
        error_type = next(item for item in types if isinstance(error, item))
        raise error_type(f"X[{name!r}]: {error}") from error
