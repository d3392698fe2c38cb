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
import pytest
import torch
from numpy.testing import assert_array_equal, assert_equal
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

import sktriplet
from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet._serialization import net_state
from sktriplet.exceptions import OtherVersionWarning
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


ways = pytest.mark.parametrize("again", [by_pickle, by_skops])


@ways
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_members": 1},
        {"n_components": 30, "n_members": 3, "normalize": False, "standardize": False},
        {"hidden_layer_sizes": ()},
        {"module": TwoLayers},
        {"module": five_wide, "n_components": None},
        {"early_stopping": True, "precision": "bfloat16"},
        {"net": TripletNet(optimizer=torch.optim.SGD, optimizer__momentum=0.9)},
    ],
    ids=lambda parameters: "-".join(parameters),
)
def test_tables(again, parameters, quick, blobs):
    X, y = blobs
    embedder = quick(**parameters).fit(X, y)
    loaded = again(embedder)
    assert_array_equal(loaded.transform(X), embedder.transform(X))
    assert_equal(loaded.history_, embedder.history_)
    assert list(loaded.get_feature_names_out()) == list(embedder.get_feature_names_out())
    assert loaded.get_params().keys() == embedder.get_params().keys()


@pytest.mark.parametrize("again", [by_joblib, copy.deepcopy])
def test_other_ways(again, quick, blobs):
    embedder = quick().fit(*blobs)
    assert_array_equal(again(embedder).transform(blobs[0]), embedder.transform(blobs[0]))


@ways
@pytest.mark.parametrize("layout", ["bytes", "colour", "rows"])
def test_images(again, layout, quick, digits):
    X, y = digits
    X, y = X[:100].reshape(-1, 8, 8).astype(np.uint8), y[:100]
    parameters = {"max_epochs": 1, "augment": "crop_erase"}
    if layout == "colour":
        X = np.stack([X] * 3, axis=-1) / np.float32(16)
    elif layout == "rows":
        X, parameters = X.reshape(len(X), -1), parameters | {"input_shape": (1, 8, 8)}
    embedder = quick(**parameters).fit(X, y)
    loaded = again(embedder)
    assert_array_equal(loaded.transform(X), embedder.transform(X))
    assert loaded.input_shape_ == embedder.input_shape_


@ways
@pytest.mark.parametrize("labels", [np.str_, object, bool])
def test_around_it(again, labels, quick, blobs):
    X, numbers = blobs
    y = numbers > 0 if labels is bool else np.array(["a", "b", "c"])[numbers].astype(labels)
    pipeline = make_pipeline(StandardScaler(), quick(), KNeighborsClassifier()).fit(X, y)
    loaded = again(pipeline)
    assert_array_equal(loaded.predict(X), pipeline.predict(X))
    assert_array_equal(loaded.predict_proba(X), pipeline.predict_proba(X))


@ways
def test_verifier_and_open_set(again, quick, digits):
    X, y = digits
    X, y = X[:200], y[:200]
    verifier = PairVerifier(quick()).fit(X, y)
    pairs = np.stack([X[:50], X[50:100]], axis=1)
    assert_array_equal(again(verifier).predict_proba(pairs), verifier.predict_proba(pairs))
    classifier = OpenSetClassifier(quick(), target_fpir=0.3).fit(X, y)
    loaded = again(classifier)
    assert_array_equal(loaded.predict(X), classifier.predict(X))
    assert_array_equal(
        loaded.enroll(X[:3], [77] * 3).predict(X), classifier.enroll(X[:3], [77] * 3).predict(X)
    )


@ways
def test_unfitted(again, quick):
    embedder = quick(margin=0.7, hidden_layer_sizes=[8])
    loaded = again(embedder)
    assert loaded.get_params() == embedder.get_params()
    assert not hasattr(loaded, "net_")


@ways
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_training_goes_on_as_if_nothing_had_been(again, optimizer, quick, blobs):
    momentum = {"optimizer__momentum": 0.9} if optimizer is torch.optim.SGD else {}
    net = TripletNet(optimizer=optimizer, **momentum)
    embedder = quick(net=net, warm_start=True).fit(*blobs)
    loaded = again(embedder)
    for goes_on in (TripletEmbedder.fit, TripletEmbedder.partial_fit):
        goes_on(embedder, *blobs)
        goes_on(loaded, *blobs)
        assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))
    assert loaded.n_iter_ == embedder.n_iter_ == 5


@ways
def test_parameters_set_after_fit(again, quick, blobs):
    """The network is that of the fit, whatever the next one will be."""
    X, y = blobs
    embedder = quick().fit(X, y)
    expected = embedder.transform(X)
    loaded = again(embedder.set_params(hidden_layer_sizes=(7,), n_components=3, normalize=False))
    assert loaded.n_components == 3
    assert_array_equal(loaded.transform(X), expected)
    assert loaded.fit(X, y).transform(X).shape == (len(X), 3)


def test_a_template_left_behind(quick, blobs):
    X, y = blobs
    net = TripletNet(optimizer=torch.optim.SGD, callbacks__print_log__sink=lambda line: None)
    embedder = quick(net=net, warm_start=True).fit(X, y)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(embedder)
    loaded = by_pickle(embedder.set_params(net=None))
    assert_array_equal(loaded.transform(X), embedder.transform(X))
    assert loaded.fit(X, y).n_iter_ == 4


def test_a_module_that_is_an_instance(quick, blobs):
    X, y = blobs
    embedder = quick(module=TwoLayers((5,), 4), n_components=4).fit(X, y)
    assert_array_equal(by_pickle(embedder).transform(X), embedder.transform(X))


def test_only_arrays_numbers_and_text(quick, blobs):
    def plain(state):
        if isinstance(state, dict):
            return all(plain(value) for value in state.values())
        if isinstance(state, list | tuple):
            return all(map(plain, state))
        return type(state) in (np.ndarray, bool, int, float, str, type(None))

    assert plain(net_state(quick(module=TwoLayers).fit(*blobs).net_))


def test_what_is_written_is_small(quick, digits):
    X, y = digits
    embedder = quick(hidden_layer_sizes=(64,)).fit(X, y)
    n_numbers = sum(weights.numel() for weights in embedder.net_.module_.parameters())
    assert len(pickle.dumps(embedder)) < 3 * 4 * n_numbers + 50_000


def test_nothing_to_trust_but_our_own(quick, digits):
    skops = pytest.importorskip("skops.io")
    X, y = digits
    X, y = X[:200], y[:200]
    for fitted in (
        quick().fit(X, y),
        quick(max_epochs=1).fit(X.reshape(-1, 8, 8), y),
        quick(random_state=np.random.RandomState(0)).fit(X, y.astype(str)),
        make_pipeline(StandardScaler(), quick(), KNeighborsClassifier()).fit(X, y),
        PairVerifier(quick()).fit(X, y),
        OpenSetClassifier(quick(), target_fpir=0.3).fit(X, y),
    ):
        types = skops.get_untrusted_types(data=skops.dumps(fitted))
        assert types
        assert all(name.startswith("sktriplet.") for name in types), types
    types = skops.get_untrusted_types(data=skops.dumps(quick(module=TwoLayers).fit(X, y)))
    assert types == ["sktriplet._embedder.TripletEmbedder", f"{__name__}.TwoLayers"]


def test_loading_leaves_global_state_alone(quick, blobs):
    written = pickle.dumps(quick(module=TwoLayers).fit(*blobs))
    torch.manual_seed(3)
    n_threads, state = torch.get_num_threads(), torch.get_rng_state()
    pickle.loads(written)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads


def test_another_version_says_so(quick, blobs, monkeypatch):
    embedder = quick().fit(*blobs)
    written = pickle.dumps(embedder)
    monkeypatch.setattr(sktriplet, "__version__", "99.1")
    with pytest.warns(OtherVersionWarning, match=r"sktriplet 0\.1\.0 and is loaded by 99\.1"):
        loaded = pickle.loads(written)
    assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))
    assert_array_equal(by_pickle(loaded).transform(blobs[0]), embedder.transform(blobs[0]))


def test_a_device_that_is_not_here(quick, blobs):
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    embedder = quick().fit(*blobs)
    embedder._fit_parameters["device"] = "cuda"
    with pytest.warns(UserWarning, match="'cuda' is not here. It is loaded on the CPU"):
        loaded = by_pickle(embedder)
    assert torch.device(loaded.net_.device).type == "cpu"
    assert_array_equal(loaded.transform(blobs[0]), embedder.transform(blobs[0]))


class TestDamage:
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
    def test_truncated(self, part, quick, blobs, tmp_path):
        written = pickle.dumps(quick().fit(*blobs))
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError)):
            pickle.loads(written[: int(part * len(written))])
        skops = pytest.importorskip("skops.io")
        written = skops.dumps(quick().fit(*blobs))
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
            lambda state: state["net_"]["weights"]["body.head.bias"].__iadd__(1e-6),
            lambda state: state["net_"]["optimizer"]["state"][0]["exp_avg"].__iadd__(1e-6),
            lambda state: state["net_"]["weights"].popitem(),
            lambda state: state["net_"]["weights"].update(more=np.zeros(3)),
            lambda state: state["net_"].pop("history"),
            lambda state: state["net_"].update(history="[{"),
            lambda state: state.update(net_=None),
            lambda state: state.update(input_shape_=(6,)),
            lambda state: state.update(input_shape_=(1, 5)),
            lambda state: state.pop("_moments"),
            lambda state: state["_fit_parameters"].update(n_components=7),
            lambda state: state["_fit_parameters"].update(n_component=7),
            lambda state: state.pop("_fit_parameters"),
        ],
    )
    def test_tampered(self, change, quick, blobs):
        embedder = quick().fit(*blobs)
        with pytest.raises(ValueError, match=r"saved by sktriplet .* cannot be loaded"):
            self.tampered(embedder, change)
        self.tampered(embedder, lambda state: None)


def test_in_a_fresh_process(quick, digits, tmp_path):
    X, y = digits
    embedder = quick().fit(X, y)
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


def test_clones_forget(quick, blobs):
    assert not hasattr(clone(by_pickle(quick().fit(*blobs))), "_fit_parameters")


def test_what_a_callback_has_put_into_the_history_is_written_down(blobs):
    class Note(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("at", datetime.datetime(2020, 1, 2))
            net.history.record("numbers", np.arange(2))

    template = TripletNet(callbacks=[("note", Note())])
    embedder = TripletEmbedder(max_epochs=1, net=template).fit(*blobs)
    again = pickle.loads(pickle.dumps(embedder.set_params(net=None)))
    assert again.history_[0]["at"] == "2020-01-02 00:00:00"
    assert again.history_[0]["numbers"] == [0, 1]
