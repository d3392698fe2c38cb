import copy
import datetime
import io
import pickle
import subprocess
import sys
import textwrap
import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal, assert_equal
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import sktriplet
from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet._serialization import net_state
from sktriplet.training import TripletNet


class TwoLayers(nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        (n_features,) = input_shape
        self.layers = nn.Sequential(nn.Linear(n_features, 8), nn.Linear(8, n_components))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bfloat16))

    def forward(self, X):
        return self.layers(X)


def five_wide(input_shape, n_components):
    return TwoLayers(input_shape, 5)


def by_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def by_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


def by_skops(estimator):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(estimator)
    return skops.loads(data, trusted=skops.get_untrusted_types(data=data))


@pytest.fixture(params=[by_pickle, by_skops])
def roundtrip(request):
    """Save an estimator and load it."""
    return request.param


def test_mixed_table(roundtrip, make_embedder):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.random(60), "color": rng.choice(["red", None, "blue"], 60)})
    frame.loc[::7, "size"] = np.nan
    y = frame["color"] == "red"
    embedder = make_embedder(warm_start=True).fit(frame, y)
    loaded = roundtrip(embedder)
    assert_array_equal(loaded.transform(frame), embedder.transform(frame))
    assert_array_equal(
        loaded.fit(frame, y).transform(frame), embedder.fit(frame, y).transform(frame)
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_members": 1},
        {"n_components": 30, "n_members": 3, "normalize": False, "standardize": False},
        {"hidden_layer_sizes": (), "n_members": 1},
        {"module": TwoLayers},
        {"module": five_wide, "n_components": None},
        {"early_stopping": True, "precision": "bfloat16"},
        {"net": TripletNet(optimizer=torch.optim.SGD, optimizer__momentum=0.9)},
    ],
    ids=lambda parameters: "-".join(parameters),
)
def test_table(roundtrip, parameters, make_embedder, blobs):
    X, y = blobs
    embedder = make_embedder(**parameters).fit(X, y)
    loaded = roundtrip(embedder)
    assert_array_equal(loaded.transform(X), embedder.transform(X))
    assert_equal(loaded.history_, embedder.history_)
    assert list(loaded.get_feature_names_out()) == list(embedder.get_feature_names_out())
    assert loaded.get_params().keys() == embedder.get_params().keys()


@pytest.mark.parametrize("copied", [by_joblib, copy.deepcopy])
def test_joblib_and_deepcopy(copied, make_embedder, blobs):
    embedder = make_embedder().fit(*blobs)
    assert_array_equal(copied(embedder).transform(blobs[0]), embedder.transform(blobs[0]))


@pytest.mark.parametrize("layout", ["uint8", "color", "flat"])
def test_images(roundtrip, layout, make_image_embedder, digits):
    X, y = digits
    X, y = X[:100].reshape(-1, 8, 8).astype(np.uint8), y[:100]
    parameters = {"augment": "crop_erase"}
    if layout == "color":
        X = np.stack([X] * 3, axis=-1) / np.float32(16)
    elif layout == "flat":
        X, parameters = X.reshape(len(X), -1), parameters | {"input_shape": (1, 8, 8)}
    embedder = make_image_embedder(**parameters).fit(X, y)
    loaded = roundtrip(embedder)
    assert_array_equal(loaded.transform(X), embedder.transform(X))
    assert loaded.input_shape_ == embedder.input_shape_


@pytest.mark.parametrize("labels", [np.str_, object, bool])
def test_pipeline(roundtrip, labels, make_embedder, blobs):
    X, numbers = blobs
    y = numbers > 0 if labels is bool else np.array(["a", "b", "c"])[numbers].astype(labels)
    pipeline = make_pipeline(StandardScaler(), make_embedder(), KNeighborsClassifier()).fit(X, y)
    loaded = roundtrip(pipeline)
    assert_array_equal(loaded.predict(X), pipeline.predict(X))
    assert_array_equal(loaded.predict_proba(X), pipeline.predict_proba(X))


def test_recognition_estimators(roundtrip, make_embedder, digits):
    X, y = digits
    X, y = X[:200], y[:200]
    verifier = PairVerifier(make_embedder()).fit(X, y)
    pairs = np.stack([X[:50], X[50:100]], axis=1)
    assert_array_equal(roundtrip(verifier).predict_proba(pairs), verifier.predict_proba(pairs))


@pytest.mark.parametrize("n_components", [4, 32])
@pytest.mark.parametrize("templates", ["samples", "class_means"])
@pytest.mark.parametrize("labels", [np.int64, np.str_, object])
def test_templates(roundtrip, n_components, templates, labels, make_embedder, digits):
    """They can still be added and removed; few components are searched in a tree."""
    X, y = digits
    X, y = X[:200], y[:200].astype(str).astype(labels)
    embedder = make_embedder(n_components=n_components)
    classifier = OpenSetClassifier(embedder, target_fpir=0.3, templates=templates).fit(X, y)
    loaded = roundtrip(classifier)
    for estimator in (classifier, loaded):
        estimator.enroll(X[:50], y[:50]).remove(y[:1])
    assert_array_equal(loaded.predict(X), classifier.predict(X))
    assert_array_equal(loaded.decision_function(X), classifier.decision_function(X))
    assert_array_equal(loaded.class_count_, classifier.class_count_)


def test_unfitted(roundtrip, make_embedder):
    embedder = make_embedder(margin=0.7, hidden_layer_sizes=[8])
    loaded = roundtrip(embedder)
    assert loaded.get_params() == embedder.get_params()
    assert not hasattr(loaded, "net_")


class ScaledLoss(nn.Module):
    """A criterion with a weight."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, embeddings, labels):
        return ((embeddings.norm(dim=1) - self.scale * labels) ** 2).mean()


def test_criterion_with_weights(roundtrip, make_embedder, blobs):
    net = TripletNet(criterion=ScaledLoss)
    embedder = make_embedder(net=net, normalize=False, warm_start=True).fit(*blobs)
    loaded = roundtrip(embedder)
    assert embedder.net_.criterion_.scale != 1
    for estimator in (embedder, loaded):
        estimator.fit(*blobs)
    assert torch.equal(loaded.net_.criterion_.scale, embedder.net_.criterion_.scale)
    assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_training_continues(roundtrip, optimizer, make_embedder, blobs):
    momentum = {"optimizer__momentum": 0.9} if optimizer is torch.optim.SGD else {}
    net = TripletNet(optimizer=optimizer, **momentum)
    embedder = make_embedder(net=net, warm_start=True).fit(*blobs)
    loaded = roundtrip(embedder)
    for method in ("fit", "partial_fit"):
        getattr(embedder, method)(*blobs)
        getattr(loaded, method)(*blobs)
        assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))
    assert loaded.n_iter_ == embedder.n_iter_ == 5


def test_parameters_set_after_fit(roundtrip, make_embedder, blobs):
    """The network is that of the fit."""
    X, y = blobs
    embedder = make_embedder().fit(X, y)
    expected = embedder.transform(X)
    loaded = roundtrip(
        embedder.set_params(hidden_layer_sizes=(7,), n_components=3, normalize=False)
    )
    assert loaded.n_components == 3
    assert_array_equal(loaded.transform(X), expected)
    assert loaded.fit(X, y).transform(X).shape == (len(X), 3)


def test_net_that_cannot_be_pickled(make_embedder, blobs):
    X, y = blobs
    net = TripletNet(optimizer=torch.optim.SGD, callbacks__print_log__sink=lambda line: None)
    embedder = make_embedder(net=net, warm_start=True).fit(X, y)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(embedder)
    loaded = by_pickle(embedder.set_params(net=None))
    assert_array_equal(loaded.transform(X), embedder.transform(X))
    assert loaded.fit(X, y).n_iter_ == 4


def test_module_instance(make_embedder, blobs):
    X, y = blobs
    embedder = make_embedder(module=TwoLayers((5,), 4), n_components=4).fit(X, y)
    assert_array_equal(by_pickle(embedder).transform(X), embedder.transform(X))


def test_net_state_has_no_tensors(make_embedder, blobs):
    def is_plain(state):
        if isinstance(state, dict):
            return all(is_plain(value) for value in state.values())
        if isinstance(state, list | tuple):
            return all(map(is_plain, state))
        return type(state) in (np.ndarray, bool, int, float, str, type(None))

    assert is_plain(net_state(make_embedder(module=TwoLayers).fit(*blobs).net_))


def test_file_size(make_embedder, digits):
    X, y = digits
    embedder = make_embedder(hidden_layer_sizes=(64,)).fit(X, y)
    n_numbers = sum(weights.numel() for weights in embedder.net_.module_.parameters())
    assert len(pickle.dumps(embedder)) < 3 * 4 * n_numbers + 50_000


def test_skops_trusted_types(make_embedder, make_image_embedder, digits):
    skops = pytest.importorskip("skops.io")
    X, y = digits
    X, y = X[:200], y[:200]
    for fitted in (
        make_embedder().fit(X, y),
        make_image_embedder().fit(X.reshape(-1, 8, 8), y),
        make_embedder(random_state=np.random.RandomState(0)).fit(X, y.astype(str)),
        make_pipeline(StandardScaler(), make_embedder(), KNeighborsClassifier()).fit(X, y),
        PairVerifier(make_embedder()).fit(X, y),
        OpenSetClassifier(make_embedder(), target_fpir=0.3).fit(X, y),
        OpenSetClassifier(make_embedder(n_components=4), target_fpir=0.3).fit(X, y.astype(str)),
    ):
        types = skops.get_untrusted_types(data=skops.dumps(fitted))
        assert types
        assert all(name.startswith("sktriplet.") for name in types), types
    types = skops.get_untrusted_types(data=skops.dumps(make_embedder(module=TwoLayers).fit(X, y)))
    assert types == ["sktriplet._embedder.TripletEmbedder", f"{__name__}.TwoLayers"]


def test_loading_does_not_change_global_state(make_embedder, blobs):
    written = pickle.dumps(make_embedder(module=TwoLayers).fit(*blobs))
    torch.manual_seed(3)
    n_threads, state = torch.get_num_threads(), torch.get_rng_state()
    pickle.loads(written)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads


def test_other_version(make_embedder, blobs, monkeypatch):
    embedder = make_embedder().fit(*blobs)
    written = pickle.dumps(embedder)
    version = sktriplet.__version__
    monkeypatch.setattr(sktriplet, "__version__", "99.1")
    with pytest.warns(InconsistentVersionWarning, match=rf"{version}.*99\.1"):
        loaded = pickle.loads(written)
    assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))
    assert_array_equal(by_pickle(loaded).transform(blobs[0]), embedder.transform(blobs[0]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_unavailable_device(make_embedder, blobs):
    embedder = make_embedder().fit(*blobs)
    embedder._fit_parameters["device"] = "cuda"
    with pytest.warns(UserWarning, match=r"'cuda'.* CPU"):
        loaded = by_pickle(embedder)
    assert torch.device(loaded.net_.device).type == "cpu"
    assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))


class TestDamagedFile:
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
    def test_truncated(self, part, make_embedder, blobs, tmp_path):
        written = pickle.dumps(make_embedder().fit(*blobs))
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError)):
            pickle.loads(written[: int(part * len(written))])
        skops = pytest.importorskip("skops.io")
        written = skops.dumps(make_embedder().fit(*blobs))
        with pytest.raises(zipfile.BadZipFile):
            skops.loads(written[: int(part * len(written))], trusted=["sktriplet"])

    def tampered(self, embedder, change):
        loaded = TripletEmbedder.__new__(TripletEmbedder)
        state = copy.deepcopy(embedder.__getstate__())
        change(state)
        loaded.__setstate__(state)

    @pytest.mark.parametrize(
        "change",
        [
            lambda state: state["net_"]["weights"].popitem(),
            lambda state: state["net_"]["weights"].update(more=np.zeros(3)),
            lambda state: state["net_"].pop("history"),
            lambda state: state["net_"].update(history="[{"),
            lambda state: state.update(net_=None),
            lambda state: state["_preprocessor"]["network_layout"].update(shape=(6,)),
            lambda state: state["_preprocessor"].update({"sktriplet class": "Unknown"}),
            lambda state: state["_preprocessor"].pop("scaler"),
            lambda state: state.pop("_preprocessor"),
            lambda state: state["_fit_parameters"].update(n_components=7),
            lambda state: state["_fit_parameters"].update(n_component=7),
            lambda state: state.pop("_fit_parameters"),
        ],
    )
    def test_tampered(self, change, make_embedder, blobs):
        embedder = make_embedder().fit(*blobs)
        with pytest.raises(ValueError, match=r"saved by sktriplet .* cannot be loaded"):
            self.tampered(embedder, change)
        self.tampered(embedder, lambda state: None)


@pytest.mark.slow
def test_other_process(make_embedder, digits, tmp_path):
    X, y = digits
    embedder = make_embedder().fit(X, y)
    joblib.dump(embedder, tmp_path / "embedder.joblib")
    np.save(tmp_path / "X.npy", X)
    code = """
        import sys, joblib, numpy as np
        folder = sys.argv[1]
        embedder = joblib.load(folder + "/embedder.joblib")
        np.save(folder + "/embedded.npy", embedder.transform(np.load(folder + "/X.npy")))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True)
    assert_array_equal(np.load(tmp_path / "embedded.npy"), embedder.transform(X))


def test_clone_after_loading(make_embedder, blobs):
    assert not hasattr(clone(by_pickle(make_embedder().fit(*blobs))), "_fit_parameters")


def test_history_of_callbacks(make_embedder, blobs, spy):
    """Values that JSON does not have are converted."""

    def record(net, **kwargs):
        net.history.record("at", datetime.datetime(2020, 1, 2))
        net.history.record("numbers", np.arange(2))

    embedder = make_embedder(max_epochs=1, net=TripletNet(callbacks=[spy(on_epoch_end=record)]))
    loaded = by_pickle(embedder.fit(*blobs).set_params(net=None))
    assert loaded.history_[0]["at"] == "2020-01-02 00:00:00"
    assert loaded.history_[0]["numbers"] == [0, 1]
