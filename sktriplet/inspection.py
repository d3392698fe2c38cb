"""Explanation of the distance between two samples by their features."""

import copy
import warnings
from math import prod
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, check_scalar, gen_batches
from sklearn.utils.validation import check_is_fitted
from skorch.helper import SliceDict
from torch import Tensor

from sktriplet._embedder import TripletEmbedder
from sktriplet._multi_input import MultiInputPreprocessor, encode_samples
from sktriplet.exceptions import InvalidParameterError
from sktriplet.networks._embedding_network import OneHot
from sktriplet.training._data import as_tensor

__all__ = ["distance_contributions"]

# Numbers of intervals into which the path between two samples is divided.
MIN_INTERVALS, MAX_INTERVALS = 64, 4096
# Relative rounding error of embeddings in single precision.
ROUNDING = 1e-6
# Numbers in a batch of points on the path, and the most points.
BATCH_SIZE, MAX_POINTS = 2**20, 256


def distance_contributions(embedder: Any, left: Any, right: Any, *, tol: float = 1e-3) -> Bunch:
    r"""Decompose the squared distance between embeddings over the features of the samples.

    The contribution of feature i to the squared distance between the embeddings of the samples a
    and b is

    .. math::
        c_i = (b_i - a_i) \int_0^1 \sum_k (f_k(b) - f_k(a)) \,
            \frac{\partial f_k}{\partial x_i}(a + t (b - a)) \, dt.

    The contributions add up to :math:`\lVert f(b) - f(a) \rVert^2`: they are the integrated
    gradients [1]_ of the inner product of the embedding with the difference of both embeddings,
    along the straight path from a to b. Positive contributions move the samples apart, negative
    ones move them closer together. A feature with the same value in both samples contributes
    nothing, and both orders of the samples give the same result. If the embedding is a linear map
    W, the contributions are :math:`(b - a)_i (W^\top W (b - a))_i`.

    Read more in the :doc:`user guide </explaining>`.

    Parameters
    ----------
    embedder : TripletEmbedder
        Fitted embedder, or a `ComparisonEmbedder`, `PairVerifier` or `OpenSetClassifier` of one.
    left : {array-like, sparse matrix} of shape (n_pairs, n_features), or images
        First sample of each pair, in any layout that ``transform`` accepts.
    right : {array-like, sparse matrix} of shape (n_pairs, n_features), or images
        Second sample of each pair.
    tol : float, default=1e-3
        Tolerance, relative to the squared distance. The integral is computed by the trapezoidal
        rule. Its intervals are halved until the contributions add up to the squared distance and
        no longer change, both up to the tolerance, at most to 4096 intervals.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes:

        contributions : ndarray of the shape of left, or dict
            Contribution of each feature, or of each pixel and channel. The columns of a table have
            one contribution each, also if they are categorical or have missing values. A dict if
            `left` is a dict of several inputs, whose contributions add up together.
        squared_distances : ndarray of shape (n_pairs,)
            Squared Euclidean distances between the embeddings.

    Raises
    ------
    NotFittedError
        If the embedder is not fitted.
    TypeError
        If `embedder` has no `TripletEmbedder`.
    InvalidParameterError
        If the module of the embedder receives ids, or computes no gradients.
    ValueError
        If `left` or `right` is invalid or not consistent with the training data, or if they have
        different numbers of samples.

    Warns
    -----
    ConvergenceWarning
        If the contributions of a pair do not reach the tolerance.

    See Also
    --------
    sktriplet.display.DistanceContributionsDisplay : Plots the contributions for one pair.

    Notes
    -----
    Networks run in evaluation mode and in single precision, on the device of the embedder. The path
    leads through one-hot columns and indicators of missing values, whose contributions are added to
    those of their column.

    References
    ----------
    .. [1] Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sktriplet import TripletEmbedder
    >>> from sktriplet.inspection import distance_contributions
    >>> X, y = load_iris(return_X_y=True)
    >>> embedder = TripletEmbedder(max_epochs=5, random_state=0).fit(X, y)
    >>> result = distance_contributions(embedder, X[:10], X[50:60])
    >>> result.contributions.shape
    (10, 4)
    >>> bool(np.allclose(result.contributions.sum(axis=1), result.squared_distances, rtol=1e-3))
    True
    """
    check_scalar(tol, "tol", Real, min_val=0, include_boundaries="neither")
    embedder = _find_embedder(embedder)
    if embedder.net_.module.keeps_integers:
        raise InvalidParameterError(
            "The 'module' parameter must not receive ids, between which there is no path. Got an "
            "embedder that was fitted on integers with standardize=False."
        )
    samples = [
        _to_network_input(embedder, X, name) for X, name in ((left, "left"), (right, "right"))
    ]
    shapes = [_shape_of(X) for X in samples]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"left and right must have the same shape. Got {shapes[0]} and {shapes[1]}."
        )
    network, n_pairs = _FlatNetwork(embedder, samples[0]), samples[0].shape[0]
    contributions = np.empty((n_pairs, network.n_inputs))
    distances, errors = np.empty(n_pairs), np.empty(n_pairs)
    for pair in range(n_pairs):
        start, end = (network.flatten(as_tensor(X[pair : pair + 1])) for X in samples)
        contributions[pair], distances[pair], errors[pair] = _integrate(network, start, end, tol)
    is_inexact = errors > tol
    if is_inexact.any():
        warnings.warn(
            f"The contributions of {is_inexact.sum()} of {n_pairs} pair(s) are inexact: their "
            f"errors are up to {errors.max():.2g} of the squared distance, more than tol={tol}. "
            "The embedding changes abruptly between the samples, or differs in too few digits.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Bunch(contributions=network.unflatten(contributions), squared_distances=distances)


def _find_embedder(estimator: Any) -> TripletEmbedder:
    check_is_fitted(estimator)
    embedder = getattr(estimator, "estimator_", estimator)
    if isinstance(embedder, TripletEmbedder):
        return embedder
    hint = ""
    if hasattr(embedder, "steps"):
        hint = " Pass its last step, and samples that the other steps have transformed."
    raise TypeError(
        "embedder must be a fitted TripletEmbedder, or a fitted estimator that contains one. Got "
        f"{type(embedder).__name__}.{hint}"
    )


def _to_network_input(embedder: TripletEmbedder, X: Any, name: str) -> Any:
    try:
        X = encode_samples(embedder._preprocessor, X, embedder)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error
    return embedder._preprocessor.convert(X)


def _shape_of(X: Any) -> Any:
    if isinstance(X, SliceDict):
        return {name: np.shape(part) for name, part in X.items()}
    return np.shape(X)


class _FlatNetwork:
    """The network of an embedder as a differentiable function of flat samples.

    A flat sample holds all inputs, with one-hot columns instead of their indices.

    Parameters
    ----------
    embedder : TripletEmbedder
        Fitted embedder, which is not changed.
    X : ndarray, CSR matrix, LazySamples or SliceDict
        Samples as the network receives them, in the layout of all those to flatten.
    """

    def __init__(self, embedder: TripletEmbedder, X: Any):
        self.device = embedder.net_.device
        self.network: Any = copy.deepcopy(embedder.net_.module).eval().requires_grad_(False)
        self.network.precision = "float32"
        preprocessor = embedder._preprocessor
        self.has_several = isinstance(preprocessor, MultiInputPreprocessor)
        # One input has no name.
        inputs = preprocessor.parts if self.has_several else {None: preprocessor}
        self.encoders: Any = {name: part.encoder for name, part in inputs.items()}
        self.shapes, self.one_hot = {}, {}
        for name, encoder in self.encoders.items():
            part = self.network._input(name) if self.has_several else self.network
            self.shapes[name] = (X[name] if self.has_several else X).shape[1:]
            if isinstance(part.input_layout, OneHot):
                self.shapes[name] = (encoder.n_outputs,)
                self.one_hot[name], part.input_layout = part.input_layout, None
        self.sizes = [prod(shape) for shape in self.shapes.values()]
        self.n_inputs = sum(self.sizes)

    def flatten(self, X: Any) -> Tensor:
        """Return samples as a tensor of shape (n_samples, n_inputs), in float32."""
        parts = X if self.has_several else {None: X}
        flat = []
        for name, part in parts.items():
            part = part.to(self.device, torch.float32)
            part = self.one_hot[name](part) if name in self.one_hot else part
            flat.append(part.flatten(1))
        return torch.cat(flat, dim=1)

    def __call__(self, flat: Tensor) -> Tensor:
        """Return the embeddings of flat samples."""
        split = zip(self.shapes.items(), flat.split(self.sizes, dim=1), strict=True)
        parts = {name: part.reshape(-1, *shape) for (name, shape), part in split}
        return self.network(**parts) if self.has_several else self.network(parts[None])

    def unflatten(self, contributions: NDArray) -> Any:
        """Return contributions in the layout of the samples that users pass."""
        split = np.split(contributions, np.cumsum(self.sizes)[:-1], axis=1)
        parts = {}
        for (name, encoder), part in zip(self.encoders.items(), split, strict=True):
            shaped = part.reshape(-1, *self.shapes[name])
            parts[name] = shaped if encoder is None else encoder.sum_by_column(shaped)
        return parts if self.has_several else parts[None]


def _integrate(
    network: _FlatNetwork, start: Tensor, end: Tensor, tol: float
) -> tuple[NDArray, float, float]:
    """Return the contributions for one pair, its squared distance, and their relative error."""
    with torch.no_grad():
        ends = network(torch.cat([start, end])).cpu().double()
    direction = ends[1] - ends[0]
    squared_distance = float(direction @ direction)
    rounding = ROUNDING * float(direction.norm() * ends.norm())
    difference = (end - start)[0].cpu().double().numpy()

    def sum_gradients(positions: NDArray) -> NDArray:
        total = np.zeros(network.n_inputs)
        for part in gen_batches(len(positions), chunk_size):
            t = torch.from_numpy(positions[part, None]).to(start)
            points = (start + t * (end - start)).requires_grad_()
            total += _gradient(network, points, direction).cpu().double().numpy()
        return total

    chunk_size = int(np.clip(BATCH_SIZE // network.n_inputs, 1, MAX_POINTS))
    n_intervals, error = MIN_INTERVALS, np.inf
    inner = np.arange(1, n_intervals) / n_intervals
    total = sum_gradients(np.array([0.0, 1.0])) / 2 + sum_gradients(inner)
    contributions = difference * total / n_intervals
    while error > tol and n_intervals < MAX_INTERVALS:
        total += sum_gradients((np.arange(n_intervals) + 0.5) / n_intervals)
        n_intervals *= 2
        before, contributions = contributions, difference * total / n_intervals
        change = np.abs(contributions - before).max()
        gap = abs(contributions.sum() - squared_distance)
        excess = max(gap, change) - rounding
        error = excess / squared_distance if excess > 0 else 0.0
    return contributions, squared_distance, error


def _gradient(network: _FlatNetwork, points: Tensor, direction: Tensor) -> Tensor:
    """Return the sum of the gradients of the embeddings' component in a direction."""
    with torch.enable_grad():
        embeddings = network(points)
        if not embeddings.requires_grad:
            raise InvalidParameterError(
                "The 'module' parameter must be differentiable with respect to its input. Got a "
                "network whose output has no gradient: it may use torch.no_grad() or detach()."
            )
        component = (embeddings @ direction.to(embeddings)).sum()
        return torch.autograd.grad(component, points)[0].sum(dim=0)
