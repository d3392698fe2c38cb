"""Contributions of features to distances."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktriplet import ComparisonEmbedder, PairVerifier, TripletEmbedder
from sktriplet.exceptions import InvalidParameterError
from sktriplet.inspection import distance_contributions


def sums(result):
    """Sum of the contributions of each pair."""
    contributions = result.contributions
    return contributions.reshape(len(contributions), -1).sum(axis=1)


def assert_complete(embedder, left, right, tol=1e-3):
    """The contributions add up to the distances between the embeddings of transform."""
    result = distance_contributions(embedder, left, right, tol=tol)
    expected = ((embedder.transform(left) - embedder.transform(right)) ** 2).sum(axis=1)
    assert_allclose(result.squared_distances, expected, rtol=1e-4)
    assert_allclose(sums(result), expected, rtol=tol + 1e-4)
    assert result.contributions.shape == left.shape
    return result


def make_linear(**parameters):
    defaults = {"n_components": 32, "max_epochs": 2, "random_state": 0}
    return TripletEmbedder(hidden_layer_sizes=(), normalize=False, **(defaults | parameters))


class Separable(nn.Module):
    """A sum of functions of single features, and a third feature that is not used."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_components))

    def forward(self, X):
        first, second = X[:, :1], X[:, 1:2]
        return self.weight * torch.cat([first.sin() + second**2, first**2 - second.exp()], 1)


class WithoutGradient(Separable):
    @torch.no_grad()
    def forward(self, X):
        return super().forward(X)


class EmbeddingOfIds(nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        self.table = nn.Embedding(10, n_components)

    def forward(self, X):
        return self.table(X).mean(dim=1)


class TwoInputs(nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        n_features = sum(np.prod(shape) for shape in input_shape.values())
        self.layers = nn.Sequential(nn.Linear(n_features, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, table, image):
        return self.layers(torch.cat([table, image.flatten(1)], dim=1))


def test_linear_map(iris):
    X, y = iris
    embedder = make_linear().fit(X, y)
    left, right = X[:20], X[60:80]
    result = assert_complete(embedder, left, right, tol=1e-5)
    weights = embedder.transform(np.eye(4)) - embedder.transform(np.zeros((1, 4)))
    difference = right - left
    expected = difference * (difference @ weights @ weights.T)
    assert_allclose(result.contributions, expected, atol=1e-5 * result.squared_distances.max())


def test_separable_function(iris, make_embedder):
    """Each contribution is known: the change of the embedding due to the feature."""
    X, y = iris
    X = X[:, :3]
    embedder = make_embedder(
        module=Separable, n_components=2, normalize=False, standardize=False, lr=1e-9
    ).fit(X, y)
    left, right = X[:5], X[100:105]
    result = assert_complete(embedder, left, right)
    change = np.empty((2, 5, 2))
    for feature in range(2):
        moved = left.copy()
        moved[:, feature] = right[:, feature]
        change[feature] = embedder.transform(moved) - embedder.transform(left)
    expected = (change * change.sum(axis=0)).sum(axis=2).T
    assert_allclose(result.contributions[:, :2], expected, rtol=2e-3, atol=1e-3)
    assert_array_equal(result.contributions[:, 2], 0)


@pytest.mark.parametrize("normalize", [True, False])
def test_ensemble(normalize, wine, make_embedder):
    X, y = wine
    embedder = make_embedder(normalize=normalize, n_members=3).fit(X, y)
    assert_complete(embedder, X[:5], X[100:105])


def test_both_orders_give_the_same(wine, make_embedder):
    X, y = wine
    embedder = make_embedder().fit(X, y)
    forward = distance_contributions(embedder, X[:3], X[100:103])
    backward = distance_contributions(embedder, X[100:103], X[:3])
    assert_allclose(forward.contributions, backward.contributions, atol=1e-3)
    assert_allclose(forward.squared_distances, backward.squared_distances)


def test_equal_values_contribute_nothing(wine, make_embedder):
    X, y = wine
    embedder = make_embedder().fit(X, y)
    right = X[:2].copy()
    right[1, 3] += 1
    result = distance_contributions(embedder, X[:2], right)
    assert result.squared_distances[0] < 1e-12
    assert_array_equal(result.contributions[0], 0)
    assert_array_equal(np.flatnonzero(result.contributions[1]), [3])
    assert_allclose(result.contributions[1, 3], result.squared_distances[1], rtol=1e-3)


def test_near_duplicates(wine, make_embedder):
    """Their distance is known to a few digits only, which is not reported as an error."""
    X, y = wine
    embedder = make_embedder().fit(X, y)
    result = distance_contributions(embedder, X[:5], X[:5] * (1 + 1e-5))
    assert np.abs(sums(result)).max() < 1e-6


def test_features_with_large_offsets(make_embedder, iris):
    X, y = iris
    X = X + np.array([1e7, 0, 0, 0])
    embedder = make_embedder().fit(X, y)
    assert embedder._preprocessor.offset is not None
    assert_complete(embedder, X[:3], X[60:63])


def test_sparse_tables(wine, make_embedder):
    X, y = wine
    embedder = make_embedder().fit(csr_array(X), y)
    result = distance_contributions(embedder, csr_array(X[:3]), csr_array(X[60:63]))
    dense = assert_complete(embedder, X[:3], X[60:63])
    assert_allclose(result.contributions, dense.contributions)


@pytest.fixture
def mixed(rng):
    """A DataFrame with categories in the middle, and missing values."""
    n_samples = 120
    color = rng.choice(["red", "green", "blue", "pink"], n_samples, p=[0.4, 0.3, 0.29, 0.01])
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=n_samples),
            "color": pd.Series(color).where(rng.random(n_samples) < 0.8),
            "weight": np.where(rng.random(n_samples) < 0.3, np.nan, rng.normal(size=n_samples)),
            "grade": rng.choice(["a", "b"], n_samples),
            "age": rng.normal(50, 10, size=n_samples),
        }
    )
    return frame, (frame["size"] + (frame["grade"] == "a") > 0.5).to_numpy()


def test_one_contribution_per_column(mixed):
    """In a linear map, it is due to the change of the embedding with that column."""
    X, y = mixed
    embedder = make_linear(n_components=4).fit(X, y)
    left, right = X.iloc[:30].reset_index(drop=True), X.iloc[60:90].reset_index(drop=True)
    result = distance_contributions(embedder, left, right, tol=1e-5)
    start = embedder.transform(left)
    direction = embedder.transform(right) - start
    assert result.contributions.shape == left.shape
    for position, name in enumerate(left.columns):
        change = embedder.transform(left.assign(**{name: right[name]})) - start
        expected = (change * direction).sum(axis=1)
        assert_allclose(result.contributions[:, position], expected, atol=1e-4)


def test_ensemble_of_mixed_tables(mixed, make_embedder):
    X, y = mixed
    embedder = make_embedder().fit(X, y)
    assert_complete(embedder, X.iloc[:5], X.iloc[60:65])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_in_all_layouts(dtype, make_image_embedder, digits):
    X, y = digits
    X = X[:200].astype(dtype).reshape(-1, 1, 8, 8)
    embedder = make_image_embedder(input_shape=(1, 8, 8)).fit(X, y[:200])
    pair = X[:1], X[1:2]
    expected = assert_complete(embedder, *pair).contributions
    for shape in [(1, 8, 8, 1), (1, 8, 8), (1, 64)]:
        found = assert_complete(embedder, *(image.reshape(shape) for image in pair))
        assert_allclose(found.contributions.ravel(), expected.ravel(), atol=1e-6)


def test_sequences(make_image_embedder, rng):
    X = rng.normal(size=(60, 2, 24)).astype(np.float32)
    embedder = make_image_embedder(input_shape=(2, 24)).fit(X, np.arange(60) % 2)
    assert_complete(embedder, X[:2], X[2:4])


def test_bfloat16_is_explained_in_single_precision(wine, make_embedder):
    X, y = wine
    embedder = make_embedder(precision="bfloat16").fit(X, y)
    result = distance_contributions(embedder, X[:3], X[60:63])
    assert_allclose(sums(result), result.squared_distances, rtol=1e-3)
    assert embedder.net_.module.precision == "bfloat16"


def test_several_inputs(make_embedder, rng):
    X = {"table": rng.normal(size=(60, 3)), "image": rng.normal(size=(60, 1, 5, 5))}
    embedder = make_embedder(module=TwoInputs, n_components=8).fit(X, np.arange(60) % 2)
    left, right = ({name: part[rows] for name, part in X.items()} for rows in ([0, 1], [2, 3]))
    result = distance_contributions(embedder, left, right)
    assert {name: part.shape for name, part in result.contributions.items()} == {
        "table": (2, 3),
        "image": (2, 1, 5, 5),
    }
    total = sum(part.reshape(2, -1).sum(axis=1) for part in result.contributions.values())
    assert_allclose(total, result.squared_distances, rtol=1e-3)


def test_estimators_that_contain_an_embedder(iris, make_embedder, rng):
    X, y = iris
    verifier = PairVerifier(make_embedder(), cv=2).fit(X, y)
    expected = verifier.decision_function(np.stack([X[:3], X[60:63]], axis=1)) ** 2
    result = distance_contributions(verifier, X[:3], X[60:63])
    assert_allclose(result.squared_distances, expected, rtol=1e-4)
    comparisons = ComparisonEmbedder(make_embedder()).fit(X[rng.integers(150, size=(50, 3))])
    assert distance_contributions(comparisons, X[:3], X[60:63]).contributions.shape == (3, 4)


def test_nothing_is_changed(wine, make_embedder, weights):
    """Also when gradients are disabled outside."""
    X, y = wine
    embedder = make_embedder().fit(X, y)
    module = embedder.net_.module.train()
    before, state = weights(embedder), torch.get_rng_state()
    with torch.no_grad():
        inside = distance_contributions(embedder, X[:1], X[60:61])
        assert not torch.is_grad_enabled()
    assert_array_equal(weights(embedder), before)
    assert_array_equal(torch.get_rng_state(), state)
    assert module.training
    assert all(item.requires_grad for item in module.parameters())
    assert_array_equal(
        inside.contributions, distance_contributions(embedder, X[:1], X[60:61]).contributions
    )


def test_warns_if_the_tolerance_is_not_reached(wine, make_embedder):
    X, y = wine
    embedder = make_embedder().fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"of 1 of 1 pair.*tol=1e-07"):
        distance_contributions(embedder, X[:1], X[60:61], tol=1e-7)


def test_errors(iris, make_embedder):
    X, y = iris
    embedder = make_embedder()
    with pytest.raises(NotFittedError):
        distance_contributions(embedder, X, X)
    embedder.fit(X, y)
    with pytest.raises(ValueError, match=r"same shape. Got \(2, 4\) and \(3, 4\)"):
        distance_contributions(embedder, X[:2], X[:3])
    with pytest.raises(ValueError, match="tol == 0"):
        distance_contributions(embedder, X[:2], X[:2], tol=0)
    with pytest.raises(ValueError, match="right: X has 3 features"):
        distance_contributions(embedder, X[:2], X[:2, :3])
    with pytest.raises(TypeError, match=r"TripletEmbedder.*Got StandardScaler"):
        distance_contributions(StandardScaler().fit(X), X, X)
    pipeline = make_pipeline(StandardScaler(), embedder).fit(X, y)
    with pytest.raises(TypeError, match=r"Got Pipeline\. Pass its last step"):
        distance_contributions(pipeline, X, X)


def test_modules_without_gradients(iris, make_embedder):
    X, y = iris
    embedder = make_embedder(module=Separable, n_components=2).fit(X, y)
    embedder.net_.module.backbone.__class__ = WithoutGradient
    with pytest.raises(InvalidParameterError, match=r"'module'.*no gradient"):
        distance_contributions(embedder, X[:1], X[1:2])


def test_ids(rng, make_embedder):
    X = rng.integers(10, size=(60, 3))
    parameters = {"module": EmbeddingOfIds, "standardize": False, "n_components": 4}
    embedder = make_embedder(**parameters).fit(X, np.arange(60) % 2)
    with pytest.raises(InvalidParameterError, match=r"'module'.*ids"):
        distance_contributions(embedder, X[:1], X[1:2])
