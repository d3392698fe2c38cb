import copy
import importlib
import logging
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from torch import nn

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet.training import TripletNet

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")
pytest.importorskip("onnxscript")

to_onnx = pytest.importorskip("sktriplet.onnx").to_onnx


def run(model, X):
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, X if isinstance(X, dict) else {"X": X})


def assert_same_embeddings(model, transformer, X):
    """Check any number of samples, and that the model has only operators of ONNX itself."""
    assert len(X) >= 500
    for n_samples in (1, 2, 500):
        (embeddings,) = run(model, X[:n_samples])
        assert embeddings.dtype == np.float32
        assert_allclose(embeddings, transformer.transform(X[:n_samples]), rtol=0, atol=1e-5)
    assert not model.functions
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx.ml"}


@pytest.fixture(scope="module")
def images(digits):
    """600 uint8 images of 8 x 8 pixels with 3 channels."""
    gray = (digits[0].reshape(-1, 8, 8, 1) * 15).astype(np.uint8)
    return np.concatenate([gray, gray // 2, 255 - gray], axis=3), digits[1]


class Remainder(nn.Module):
    """Look up vectors by the remainders of ids."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(17, 2)

    def forward(self, ids):
        return self.table(ids % 17).mean(dim=1)


class Linear(nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        self.head = nn.Linear(input_shape[0], n_components)

    def forward(self, X):
        return self.head(X)


class Resized(Linear):
    """Its Resize node omits an optional input; the output is in double precision."""

    def forward(self, X):
        larger = nn.functional.interpolate(X[:, None], scale_factor=2.0)
        return self.head(larger[:, 0, ::2]).double()


class Recurrent(nn.Module):
    """Its LSTM node omits an optional input."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        self.layer = nn.LSTM(8, n_components, batch_first=True)

    def forward(self, X):
        return self.layer(X.view(len(X), -1, 8))[0][:, -1]


class Conditional(Linear):
    """Its If node has subgraphs that use weights of the outer graph."""

    def forward(self, X):
        return torch.cond(X.sum() > 0, self.head, lambda X: -self.head(X), (X,))


class DependsOnBatchSize(Linear):
    def forward(self, X):
        return self.head(X) if len(X) < 1000 else -self.head(X)


class TestModels:
    def test_pipeline(self, make_embedder, digits):
        X, y = digits[0], np.array([f"a {digit}" for digit in digits[1]])
        pipeline = make_pipeline(StandardScaler(), make_embedder(), KNeighborsClassifier())
        pipeline.fit(X[:300], y[:300])
        model = to_onnx(pipeline, X[:1], options={"zipmap": False})
        for samples in (X[300:301], X[300:302], X[300:], X):
            labels, probabilities = run(model, samples)
            assert_array_equal(labels, pipeline.predict(samples))
            assert_allclose(probabilities, pipeline.predict_proba(samples), atol=1e-6)

    def test_union(self, make_embedder, digits):
        X, y = digits
        one = make_embedder(
            n_components=4,
            hidden_layer_sizes=(),
            n_members=1,
            normalize=False,
            standardize=False,
        )
        union = make_union(one, make_embedder(n_components=3, module=Resized)).fit(X, y)
        assert_same_embeddings(to_onnx(union, X[:1]), union, X)

    def test_uint8_and_bfloat16(self, make_image_embedder, images):
        X, y = images[0][..., 0], images[1]
        settings = {"precision": "bfloat16", "augment": "flip"}
        embedder = make_image_embedder(n_components=4, **settings).fit(X, y)
        embedder.net_.module_.train()
        in_full = copy.deepcopy(embedder)
        in_full.net_.module_.precision = "float32"
        assert_same_embeddings(to_onnx(embedder, X[:1]), in_full, X)

    def test_no_side_effects(self, make_embedder, blobs, capfd, monkeypatch):
        X, y = blobs
        embedder = make_embedder(module=Linear, n_components=2, precision="bfloat16").fit(X, y)
        network = embedder.net_.module_.train()

        def state():
            return (
                list(warnings.filters),
                [logging.getLogger(name).level for name in (None, "torch", "onnxscript")],
                torch.random.get_rng_state().tolist(),
                np.random.get_state()[1].tolist(),
                (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()),
                (network.training, network.backbone.head.training, network.precision),
                {name: tensor.tolist() for name, tensor in network.state_dict().items()},
            )

        records, before = [], state()
        monkeypatch.setattr(logging.Logger, "handle", lambda self, record: records.append(record))
        to_onnx(embedder, X)
        assert state() == before
        assert [record for record in records if record.levelno >= logging.WARNING] == []
        assert capfd.readouterr() == ("", "")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "parameters",
        [
            {"n_members": 4, "n_components": 34},
            {"n_members": 1, "normalize": False, "standardize": False},
            {"module": Recurrent},
            {"module": Conditional},
            {"module": Linear((64,), 32)},
        ],
    )
    def test_tables(self, make_embedder, digits, parameters):
        X, y = digits
        embedder = make_embedder(**parameters).fit(X, y)
        assert_same_embeddings(to_onnx(embedder, X[:1]), embedder, X)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("shape", "dtype"),
        [((8, 8), np.float64), ((3, 8, 8), np.int64), ((8, 8, 3), np.float32)],
    )
    def test_images(self, make_image_embedder, images, shape, dtype):
        X, y = images[0].astype(dtype), images[1]
        X = {(8, 8): X[..., 0], (3, 8, 8): X.transpose(0, 3, 1, 2), (8, 8, 3): X}[shape]
        embedder = make_image_embedder(n_components=4).fit(X, y)
        assert_same_embeddings(to_onnx(embedder, X[:1]), embedder, X)

    def test_features_with_large_offset(self, make_embedder, digits):
        """They are centered before their conversion to single precision."""
        X, y = digits[0] + 1e4 * (np.arange(64) == 20), digits[1]
        embedder = make_embedder(n_members=1).fit(X, y)
        assert_same_embeddings(to_onnx(embedder, X[:1]), embedder, X)

    @pytest.mark.slow
    def test_flat_images(self, make_image_embedder, digits):
        X, y = digits
        embedder = make_image_embedder(input_shape=(1, 8, 8), normalize=False).fit(X, y)
        assert_same_embeddings(to_onnx(embedder, X[:1]), embedder, X)

    @pytest.mark.slow
    @pytest.mark.parametrize("shape", [(8, 8), (64,)])
    def test_sequences(self, make_image_embedder, digits, shape):
        X, y = digits[0].reshape(-1, *shape), digits[1]
        embedder = make_image_embedder(input_shape=(8, 8)).fit(X, y)
        assert_same_embeddings(to_onnx(embedder, X[:1]), embedder, X)

    @pytest.mark.parametrize("dtype", [np.int64, np.int32])
    def test_integers(self, digits, dtype):
        """Ids above 2**24 would be rounded in single precision."""
        X, y = digits[0][:, 20:24].astype(dtype) + 2**24, digits[1]
        embedder = TripletEmbedder(None, module=Remainder(), standardize=False, max_epochs=1)
        embedder.fit(X, y)
        assert_same_embeddings(to_onnx(embedder, X[:1]), embedder, X)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
    def test_compiled_network(self, make_embedder, digits):
        X, y = digits
        net = TripletNet(compile=True, compile__backend="eager")
        embedder = make_embedder(net=net).fit(X, y)
        assert_same_embeddings(to_onnx(embedder, X[:1]), embedder, X)

    @pytest.mark.slow
    def test_grid_search(self, make_embedder, digits):
        X, y = digits
        pipeline = make_pipeline(MinMaxScaler(), make_embedder(), KNeighborsClassifier(1))
        search = GridSearchCV(pipeline, {"tripletembedder__margin": [0.2, 0.5]}, cv=2)
        search.fit(X[:300], y[:300])
        assert_array_equal(run(to_onnx(search, X[:1]), X)[0], search.predict(X))

    @pytest.mark.slow
    def test_dataframe(self, make_embedder, wine):
        X = pd.DataFrame(wine[0][:, :4], columns=list("abcd")).assign(e=np.arange(178) % 3)
        columns = make_column_transformer((OneHotEncoder(), ["e"]), (StandardScaler(), list("abc")))
        for estimator in (make_embedder(), make_pipeline(columns, make_embedder())):
            estimator.fit(X, wine[1])
            feed = {name: X[[name]].to_numpy() for name in X}
            (embeddings,) = run(to_onnx(estimator, X[:1]), feed)
            assert_allclose(embeddings, estimator.transform(X), atol=1e-5)

    @pytest.mark.slow
    def test_sparse_example(self, make_embedder, digits):
        X, y = digits
        embedder = make_embedder(module=Linear).fit(csr_array(X), y)
        model = to_onnx(embedder, csr_array(X[:3], dtype=np.float32))
        assert_same_embeddings(model, embedder, X.astype(np.float32))

    @pytest.mark.slow
    def test_skl2onnx_function(self, make_embedder, blobs):
        """It has more options, and accepts input of unknown width."""
        X, y = blobs
        embedder = make_embedder(module=Linear).fit(X, y)
        width_unknown = [("X", skl2onnx.common.data_types.FloatTensorType([None, None]))]
        model = skl2onnx.to_onnx(embedder, initial_types=width_unknown, target_opset=19)
        assert {opset.domain: opset.version for opset in model.opset_import}[""] == 19
        X = X.astype(np.float32)
        assert_allclose(run(model, X)[0], embedder.transform(X), atol=1e-5)
        with pytest.raises(RuntimeError, match="opset 10"):
            to_onnx(embedder, X, target_opset=10)


class TestErrors:
    def test_not_fitted(self, make_embedder, blobs):
        with pytest.raises(NotFittedError, match="TripletEmbedder"):
            to_onnx(make_embedder(), blobs[0])
        with pytest.raises(NotFittedError, match="Pipeline"):
            to_onnx(make_pipeline(StandardScaler(), make_embedder()), blobs[0])
        with pytest.raises(NotFittedError, match="TripletEmbedder"):
            skl2onnx.to_onnx(make_embedder(), blobs[0])

    @pytest.mark.parametrize("make", [PairVerifier, OpenSetClassifier])
    def test_recognition(self, make_embedder, digits, make):
        """Their embedders can be exported, as the error says."""
        target = {"target_fpir": 0.3} if make is OpenSetClassifier else {}
        estimator = make(make_embedder(), cv=2, **target).fit(*digits)
        with pytest.raises(TypeError, match=rf"{make.__name__} .*estimator\.estimator_"):
            to_onnx(estimator, digits[0])
        to_onnx(estimator.estimator_, digits[0])

    def test_other_number_of_features(self, make_embedder, blobs):
        embedder = make_embedder().fit(*blobs)
        with pytest.raises(ValueError, match="X has 4 features"):
            to_onnx(embedder, blobs[0][:, :4])
        with pytest.raises(ValueError, match="Expected 2D array"):
            to_onnx(embedder, blobs[0][0])

    def test_other_image_shape(self, make_image_embedder, images):
        X, y = images
        embedder = make_image_embedder().fit(X[:50], y[:50])
        with pytest.raises(ValueError, match=r"images of shape \(3, 8, 8\)"):
            to_onnx(embedder, X[:, :7])

    def test_other_order_of_columns(self, make_embedder, blobs):
        X = pd.DataFrame(blobs[0], columns=list("abcde"))
        pipeline = make_pipeline(StandardScaler(), make_embedder()).fit(X, blobs[1])
        with pytest.raises(ValueError, match="same order"):
            to_onnx(pipeline, X[list("edcba")])

    def test_module_that_cannot_be_exported(self, make_embedder, blobs):
        embedder = make_embedder(module=DependsOnBatchSize).fit(*blobs)
        with pytest.raises(ValueError, match=r"TripletEmbedder.*DependsOnBatchSize") as caught:
            to_onnx(embedder, blobs[0])
        assert "n_samples" in str(caught.value.__cause__)

    def test_subclass(self, blobs):
        """Its transform may differ."""

        class Other(TripletEmbedder):
            pass

        with pytest.raises(RuntimeError, match="Other"):
            to_onnx(Other(n_members=1, max_epochs=1).fit(*blobs), blobs[0])

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "skl2onnx"])
    def test_missing_package(self, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, "sktriplet.onnx")
        with pytest.raises(ImportError, match=r"pip install sktriplet\[onnx\]"):
            importlib.import_module("sktriplet.onnx")


class TestMissingValues:
    @pytest.mark.parametrize("offset", [0, 1e7])
    @pytest.mark.parametrize("fit_with_missing", [False, True])
    def test_same_as_transform(self, make_embedder, digits, fit_with_missing, offset):
        X, y = digits[0][:, 10:16].astype(float) + offset, digits[1]
        missing = X.copy()
        missing[::3, 2] = missing[::5, 4] = np.nan
        embedder = make_embedder().fit(missing if fit_with_missing else X, y)
        assert_same_embeddings(to_onnx(embedder, X[:1]), embedder, missing)

    @pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean"])
    def test_nullable_columns(self, make_embedder, dtype):
        values = pd.array([0, None, 1] * 20, dtype="Int64").astype(dtype)
        frame = pd.DataFrame({"a": values, "b": np.arange(60.0)})
        embedder = make_embedder().fit(frame, [0, 1, 2] * 20)
        floats = frame.astype({"a": float})
        inputs = {name: floats[[name]].to_numpy() for name in frame}
        (embedded,) = run(to_onnx(embedder, frame), inputs)
        assert_allclose(embedded, embedder.transform(frame), atol=1e-5)

    def test_categorical_features(self, make_embedder):
        frame = pd.DataFrame({"a": ["x", "y"] * 10, "b": np.arange(20.0)})
        embedder = make_embedder().fit(frame, [0, 1] * 10)
        with pytest.raises(ValueError, match=r"categorical features\. Encode them"):
            to_onnx(embedder, frame[:1])
