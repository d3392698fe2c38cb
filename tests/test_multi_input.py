"""Several inputs: a dict of arrays for a custom module with keyword arguments."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.helper import SliceDict
from torch import nn

from sktriplet import ComparisonEmbedder, OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet.exceptions import (
    AmbiguousLabelWarning,
    InputRangeWarning,
    InvalidParameterError,
    SkippedChunkWarning,
)
from sktriplet.training import ResumableCheckpoint, TripletNet

SEEN = {}
STANDARDIZED = ["table", "image"]


class Combined(nn.Module):
    """Embed a table, an image, and ids, and add the embeddings."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        SEEN["input_shape"] = input_shape
        self.table = nn.Linear(*input_shape["table"], n_components)
        self.image = nn.Sequential(nn.Flatten(), nn.LazyLinear(n_components))
        self.ids = nn.EmbeddingBag(10, n_components)
        self.image(torch.zeros(1, *input_shape["image"]))

    def forward(self, *, table, image, ids):
        SEEN.update(
            {
                name: (part.dtype, *part.shape[1:])
                for name, part in locals().items()
                if isinstance(part, torch.Tensor)
            }
        )
        return self.table(table) + self.image(image) + self.ids(ids)


@pytest.fixture(scope="module")
def data():
    """Each class differs from one other in one input only."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 4
    ids = rng.integers(5, size=(80, 3)) + 5 * (y % 2)[:, None]
    table = rng.normal(scale=0.1, size=(80, 2)) + 1000 * (y[:, None] // 2)
    image = rng.integers(100, size=(80, 6, 5, 3)) + 50 * (y[:, None, None, None] // 2)
    return {"table": table, "image": image.astype(np.uint8), "ids": ids}, y


@pytest.fixture
def make_combined():
    def make(**parameters):
        defaults = {
            "module": Combined,
            "standardize": STANDARDIZED,
            "max_epochs": 3,
            "lr": 0.05,
            "random_state": 0,
        }
        return TripletEmbedder(8, **(defaults | parameters))

    return make


class TestFit:
    def test_inputs_reach_the_module(self, make_combined, data):
        X, y = data
        embedder = make_combined(max_epochs=10).fit(X, y)
        assert embedder.score(X, y) > 0.8
        assert embedder.input_shape_ == {"table": (2,), "image": (3, 6, 5), "ids": (3,)}
        assert SEEN["input_shape"] == embedder.input_shape_
        assert embedder.n_features_in_ == 2 + 90 + 3
        assert SEEN["table"] == (torch.float32, 2)
        assert SEEN["image"] == (torch.float32, 3, 6, 5)
        assert SEEN["ids"] == (torch.int64, 3)

    def test_each_input_is_standardized(self, make_combined, data):
        X, y = data
        embedder = make_combined().fit(X, y)
        parts = embedder.net_.module_.inputs
        assert_allclose(parts["input_table"].scaler.mean, X["table"].mean(axis=0), rtol=1e-5)
        means = X["image"].mean(axis=(0, 1, 2))
        assert_allclose(parts["input_image"].scaler.mean.flatten(), means, rtol=1e-5)
        assert parts["input_ids"].scaler is None

    def test_result(self, make_combined, data):
        """Compute the embeddings from the definition."""
        X, y = data
        embedder = make_combined(whiten=False).fit(X, y)
        module = embedder.net_.module_.backbone
        table = (X["table"] - X["table"].mean(axis=0)) / X["table"].std(axis=0)
        image = X["image"] / 1.0
        image = (image - image.mean(axis=(0, 1, 2))) / image.std(axis=(0, 1, 2))
        with torch.no_grad():
            sums = module(
                table=torch.tensor(table).float(),
                image=torch.tensor(image).float().permute(0, 3, 1, 2),
                ids=torch.tensor(X["ids"]),
            ).numpy()
        expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        assert_allclose(embedder.transform(X), expected, atol=1e-4)

    @pytest.mark.parametrize(
        "convert",
        [
            lambda X: SliceDict(**X),
            lambda X: X | {"table": pd.DataFrame(X["table"]).add_prefix("f")},
            lambda X: X | {"ids": X["ids"].tolist()},
            lambda X: {name: X[name] for name in reversed(X)},
        ],
        ids=["SliceDict", "frame", "list", "order"],
    )
    def test_containers(self, make_combined, data, convert):
        X, y = data
        expected = make_combined().fit(X, y).transform(X)
        embedder = make_combined().fit(convert(X), y)
        assert_array_equal(embedder.transform(convert(X)), expected)

    def test_feature_names(self, make_combined, data):
        X, y = data
        frame = pd.DataFrame(X["table"], columns=["a", "b"])
        embedder = make_combined().fit(X | {"table": frame}, y)
        with pytest.raises(ValueError, match=r"X\['table'\]: The feature names should match"):
            embedder.transform(X | {"table": frame[["b", "a"]]})

    def test_sparse(self, make_combined, data):
        X, y = data
        expected = make_combined(standardize=["image"]).fit(X, y).transform(X)
        sparse = X | {"table": csr_array(X["table"])}
        embedder = make_combined(standardize=["image"]).fit(sparse, y)
        assert_allclose(embedder.transform(sparse), expected, atol=1e-4)

    def test_input_shape(self, make_combined, data):
        X, y = data
        flat = X | {"image": X["image"].transpose(0, 3, 1, 2).reshape(80, -1)}
        embedder = make_combined(input_shape={"image": (3, 6, 5)}).fit(flat, y)
        assert embedder.input_shape_["image"] == (3, 6, 5)
        assert_allclose(embedder.transform(X), make_combined().fit(X, y).transform(X), atol=1e-4)
        loaded = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(loaded.transform(flat), embedder.transform(flat))

    def test_missing_values(self, make_combined, data):
        X, y = data
        table = X["table"].copy()
        table[::7, 1] = np.nan
        X = X | {"table": table}
        embedder = make_combined().fit(X, y)
        assert SEEN["table"] == (torch.float32, 3)  # with an indicator
        loaded = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(loaded.transform(X), embedder.transform(X))

    def test_augment(self, make_combined, data):
        X, y = data

        def augment(inputs):
            return inputs | {"image": inputs["image"].flip(3)}

        flipped = X | {"image": X["image"][:, :, ::-1].copy()}
        embedder = make_combined(augment=augment, whiten=False).fit(X, y)
        plain = make_combined(whiten=False).fit(flipped, y)
        assert_allclose(embedder.transform(X), plain.transform(X), atol=1e-4)


class TestLifecycle:
    @pytest.mark.filterwarnings("ignore::sktriplet.exceptions.OverfittingWarning")
    @pytest.mark.parametrize(
        "parameters",
        [{}, {"early_stopping": True, "max_epochs": 1}, {"precision": "bfloat16"}],
        ids=str,
    )
    def test_settings(self, make_combined, data, parameters):
        X, y = data
        embeddings = make_combined(**parameters).fit(X, y).transform(X)
        assert np.isfinite(embeddings).all()

    @pytest.mark.parametrize("method", ["partial_fit", "fit"])
    def test_pickle_and_continue(self, make_combined, data, method):
        X, y = data
        embedder = make_combined(warm_start=True).fit(X, y)
        loaded = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(loaded.transform(X), embedder.transform(X))
        for item in (embedder, loaded):
            getattr(item, method)(X, y)
        assert_array_equal(loaded.transform(X), embedder.transform(X))
        assert loaded.n_iter_ > 3

    def test_partial_fit_updates_statistics(self, make_combined, data):
        X, y = data
        X = SliceDict(**X)
        embedder = make_combined().partial_fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
        assert_allclose(embedder._preprocessor.parts["table"].scaler.mean_, X["table"].mean(axis=0))

    def test_chunks(self, make_combined, data):
        X, y = data
        embedder = make_combined().fit(X, y)
        converted = SliceDict(table=X["table"].astype(np.float32), image=X["image"], ids=X["ids"])
        assert_allclose(
            embedder.net_.embed(converted, chunk_size=7), embedder.transform(X), atol=1e-4
        )

    def test_checkpoint(self, make_combined, data, tmp_path):
        X, y = data
        net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / "run.pt")])
        make_combined(net=net, max_epochs=2).fit(X, y)
        other = X | {"ids": (X["ids"] + 1) % 10}
        with pytest.raises(ValueError, match="different data"):
            make_combined(net=net).fit(other, y)

    def test_cross_validation(self, make_combined, data):
        X, y = data
        scores = cross_val_score(make_combined(lr=0.01), SliceDict(**X), y, cv=2)
        assert scores.min() > 0.4
        search = GridSearchCV(make_combined(), {"margin": [0.2, 0.5]}, cv=2)
        assert search.fit(SliceDict(**X), y).transform(X).shape == (80, 8)

    def test_module_instance_is_copied(self, make_combined, data):
        X, y = data
        module = make_combined().fit(X, y).net_.module_.backbone
        before = copy.deepcopy(module.state_dict())
        make_combined(module=module).fit(X, y)
        assert all(torch.equal(before[name], item) for name, item in module.state_dict().items())


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            ({"ids": np.zeros((79, 3), int)}, ValueError, r"same number.*'ids': 79"),
            ({"table": np.full((80, 2), np.inf)}, ValueError, r"X\['table'\]: Input X contains"),
            ({"image": np.zeros((80, 6, 5, 2))}, ValueError, r"X\['image'\]: X of shape"),
            ({"ids": np.full((80, 3), 10)}, InvalidParameterError, r"ids from 10 to 10"),
            ({"ids": np.full((80, 3), 0.5)}, InvalidParameterError, "EmbeddingBag requires ids"),
            ({"a b": np.zeros((80, 3))}, ValueError, r"keys of X.*'a b'"),
        ],
        ids=lambda item: "",
    )
    def test_fit(self, make_combined, failing_miner, data, change, error, match):
        with pytest.raises(error, match=match):
            make_combined(mining=failing_miner).fit(data[0] | change, data[1])

    @pytest.mark.parametrize(
        ("parameters", "match"),
        [
            ({"module": "auto"}, r"'module' parameter.*custom.*\['table', 'image', 'ids'\]"),
            ({"standardize": ["tabel"]}, "'standardize' parameter.*'tabel'"),
            ({"standardize": "table"}, "'standardize' parameter"),
            ({"input_shape": {"picture": (3, 6, 5)}}, "'input_shape' parameter.*picture"),
            ({"input_shape": (3, 6, 5)}, "'input_shape' parameter"),
            ({"input_shape": {"image": (6, 5, 3, 1)}}, r"'input_shape' parameter.*\(6, 5, 3, 1\)"),
            ({"categorical_features": [0]}, "'categorical_features' parameter.*from_dtype"),
            ({"augment": "flip"}, "'augment' parameter.*images only"),
            ({"augment": lambda X: 3}, "'augment' parameter.*Got 3"),
        ],
    )
    def test_parameters(self, make_combined, data, parameters, match):
        with pytest.raises(InvalidParameterError, match=match):
            make_combined(**parameters).fit(*data)

    @pytest.mark.parametrize("parameter", ["standardize", "input_shape"])
    def test_parameters_need_several_inputs(self, make_embedder, blobs, parameter):
        value = {"standardize": ["table"], "input_shape": {"table": (5,)}}[parameter]
        with pytest.raises(InvalidParameterError, match=f"'{parameter}' parameter.*several inputs"):
            make_embedder(**{parameter: value}).fit(*blobs)

    def test_transform(self, make_combined, data):
        X, y = data
        embedder = make_combined().fit(X, y)
        with pytest.raises(ValueError, match=r"dict with the keys .*'ids'\], as in fit. Got ndarr"):
            embedder.transform(X["table"])
        with pytest.raises(ValueError, match=r"as in fit. Got a dict with the keys \['table'\]"):
            embedder.transform({"table": X["table"]})
        with pytest.raises(ValueError, match=r"X\['table'\]: X has 3 features.* 2 features"):
            embedder.transform(X | {"table": np.zeros((80, 3))})
        with pytest.raises(ValueError, match=r"X\['image'\]: X has shape \(80, 6, 4, 3\)"):
            embedder.transform(X | {"image": X["image"][:, :, :4]})
        with pytest.raises(InvalidParameterError, match="ids from 0 to 99"):
            embedder.transform(X | {"ids": np.where(X["ids"] == 5, 99, X["ids"])})
        with pytest.warns(InputRangeWarning):
            embedder.transform(X | {"image": X["image"] / 255})

    def test_one_input_in_fit(self, make_embedder, blobs):
        embedder = make_embedder(module=nn.Linear(5, 32)).fit(*blobs)
        for method in (embedder.transform, lambda X: embedder.partial_fit(X, blobs[1])):
            with pytest.raises(ValueError, match="X must be one array, as in fit"):
                method({"x": blobs[0]})

    @pytest.mark.parametrize("estimator", [PairVerifier, OpenSetClassifier, ComparisonEmbedder])
    def test_others(self, make_combined, data, estimator):
        with pytest.raises((TypeError, ValueError), match="dict with the keys"):
            estimator(make_combined()).fit(*data)


class TestUnlabeled:
    def test_fit(self, make_combined, data):
        X, y = data
        labels = np.where(np.arange(80) < 20, -1, y)
        embedder = make_combined(unlabeled=-1).fit(X, labels)
        assert_array_equal(embedder.classes_, [0, 1, 2, 3])
        # The statistics of the features include unlabeled samples.
        assert_allclose(embedder._preprocessor.parts["table"].scaler.mean_, X["table"].mean(axis=0))
        labeled = {name: part[20:] for name, part in X.items()}
        assert embedder.score(X, labels) == pytest.approx(embedder.score(labeled, y[20:]))

    def test_chunks_without_triplets(self, make_combined, data):
        X, y = data
        one = {name: part[:1] for name, part in X.items()}
        embedder = make_combined(unlabeled=-1)
        for label in (-1, 0):
            with pytest.warns(SkippedChunkWarning):
                embedder.partial_fit(one, [label])
        assert embedder.partial_fit(X, y).n_iter_ == 1

    def test_labels_are_checked_once(self, make_combined, data):
        X, y = data
        with pytest.warns(AmbiguousLabelWarning) as record:
            make_combined().fit(X, np.where(y == 3, -1, y))
        assert len(record) == 1

    def test_errors_of_labels_do_not_name_inputs(self, make_combined, data):
        with pytest.raises(ValueError, match=r"^y must hold class labels"):
            make_combined().fit(data[0], data[1] + 0.5)


def test_categories_in_a_part(make_combined, data):
    X, y = data
    table = pd.DataFrame({"number": X["table"][:, 0], "category": pd.Categorical(y.astype(str))})
    table.loc[:9, "number"] = np.nan
    X = X | {"table": table}
    embedder = make_combined(max_epochs=10).fit(X, y)
    # The number, whether it is missing, and a column per category.
    assert SEEN["input_shape"]["table"] == (6,)
    assert SEEN["table"] == (torch.float32, 6)
    assert embedder.score(X, y) > 0.8
    restored = pickle.loads(pickle.dumps(embedder))
    assert_array_equal(restored.transform(X), embedder.transform(X))


def test_onnx(make_combined, data):
    to_onnx = pytest.importorskip("sktriplet.onnx").to_onnx
    with pytest.raises(ValueError, match="several inputs cannot be exported"):
        to_onnx(make_combined().fit(*data), data[0])
    with pytest.raises(ValueError, match="several inputs cannot be exported"):
        to_onnx(make_combined().fit(*data), data[0]["table"])
