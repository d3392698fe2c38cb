import pickle
import threading
import time

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from skorch.helper import SliceDict
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet._lazy_samples import LazySamples, read_ahead, reading_threads
from sktriplet.display import NeighborsDisplay
from sktriplet.exceptions import InputRangeWarning, InvalidParameterError
from sktriplet.training import ResumableCheckpoint, TripletNet


class Recorder:
    """A sequence that records which of its items are read."""

    def __init__(self, items):
        self.items = items
        self.read = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        assert type(index) is int
        self.read.append(index)
        return self.items[index]


class LabeledDataset(Dataset):
    """A map-style dataset of tensors and labels that are not those of the training."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return torch.from_numpy(self.samples[index]), 0


@pytest.fixture(scope="module")
def images():
    """120 noisy images of 4 patterns, and their labels."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 4
    noise = rng.integers(-30, 30, (120, 8, 8, 3))
    return (rng.integers(30, 220, (4, 8, 8, 3))[y] + noise).astype(np.uint8), y


@pytest.fixture
def embedder():
    return TripletEmbedder(4, max_epochs=2, batch_size=32, random_state=0)


class TestArray:
    X = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)

    def test_attributes(self):
        lazy = LazySamples(Recorder(self.X))
        assert lazy.shape == (6, 2, 2)
        assert (len(lazy), lazy.ndim, lazy.size, lazy.dtype) == (6, 3, 24, np.uint8)
        assert repr(lazy) == "LazySamples(shape=(6, 2, 2), dtype=uint8)"
        assert lazy.samples.read == [0]

    @pytest.mark.parametrize(
        "key",
        [
            slice(1, 5, 2),
            slice(None, None, -1),
            slice(4, 4),
            [3, 3, 0],
            np.array([-1, 2]),
            np.arange(6) % 2 == 0,
            [True, False] * 3,
        ],
        ids=str,
    )
    def test_selection_is_lazy(self, key):
        recorder = Recorder(self.X)
        selected, expected = LazySamples(recorder)[key], self.X[key]
        assert isinstance(selected, LazySamples)
        assert recorder.read == [0]
        assert selected.shape == expected.shape
        assert_array_equal(np.asarray(selected), expected)
        assert np.asarray(selected).dtype == np.uint8
        assert_array_equal(np.asarray(selected[::-1]), expected[::-1])
        assert_array_equal(np.asarray(LazySamples(self.X)[key, ...]), expected)

    def test_empty_selection(self):
        assert (
            LazySamples(self.X)[[]].shape == np.asarray(LazySamples(self.X)[[]]).shape == (0, 2, 2)
        )

    @pytest.mark.parametrize("index", [0, -1, np.int64(3)], ids=str)
    def test_single_sample(self, index):
        sample = LazySamples(self.X)[1:][index]
        assert isinstance(sample, np.ndarray)
        assert_array_equal(sample, self.X[1:][index])

    @pytest.mark.parametrize("key", [6, (0, 1), (slice(2), 0), None, [[0, 1]], "a"], ids=str)
    def test_invalid_index(self, key):
        with pytest.raises(IndexError):
            LazySamples(self.X)[key]

    def test_iteration(self):
        assert_array_equal(list(LazySamples(self.X)[:3]), self.X[:3])

    def test_conversion(self):
        lazy = LazySamples(self.X)
        assert np.asarray(lazy, dtype=float).dtype == float
        assert_array_equal(np.array(lazy), self.X)
        with pytest.raises(ValueError, match="LazySamples have no array"):
            lazy.__array__(copy=False)

    def test_pickle(self):
        assert_array_equal(pickle.loads(pickle.dumps(LazySamples(self.X)[1:3])), self.X[1:3])

    def test_train_test_split(self):
        recorder = Recorder(self.X)
        train, test = train_test_split(LazySamples(recorder), random_state=0)
        assert recorder.read == [0]
        expected = train_test_split(self.X, random_state=0)
        assert_array_equal(np.asarray(train), expected[0])
        assert_array_equal(np.asarray(test), expected[1])


class TestItems:
    @pytest.mark.parametrize(
        "convert",
        [
            np.array,
            torch.from_numpy,
            lambda item: torch.from_numpy(item).requires_grad_(),
            lambda item: (item, 5),
            lambda item: (torch.from_numpy(item),),
            np.ndarray.tolist,
            lambda item: item.astype(np.float16),
            lambda item: item.astype(np.float64),
        ],
        ids=["array", "tensor", "grad", "pair", "1-tuple", "list", "float16", "float64"],
    )
    def test_types(self, convert):
        X = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
        lazy = LazySamples([convert(item) for item in X])
        assert lazy.dtype == np.float32
        assert_array_equal(np.asarray(lazy), X)

    def test_pillow(self):
        Image = pytest.importorskip("PIL.Image")
        X = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
        lazy = LazySamples([Image.fromarray(item) for item in X])
        assert lazy.dtype == np.uint8
        assert_array_equal(np.asarray(lazy), X)

    @pytest.mark.parametrize(
        "item",
        [np.ones((2, 2), int), np.ones((2, 2), bool), "photo.jpg", {"x": 1}, None],
        ids=["int", "bool", "str", "dict", "None"],
    )
    def test_invalid_type(self, item):
        with pytest.raises(TypeError, match=r"must be arrays of uint8 .* at index 0 of list"):
            LazySamples([item])

    @pytest.mark.parametrize(
        "second", [np.ones((3, 2)), np.ones(4), np.ones((2, 2), np.uint8)], ids=["3", "4", "uint8"]
    )
    def test_other_shape_or_type(self, second):
        lazy = LazySamples([np.ones((2, 2)), second, np.ones((2, 2))])
        with pytest.raises(ValueError, match=rf"{second.shape[0]}.* at index 1 of list".lower()):
            np.asarray(lazy[::-1])

    @pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
    def test_not_finite(self, value):
        lazy = LazySamples([np.ones((2, 2)), np.full((2, 2), value)])
        with pytest.raises(ValueError, match=r"must be finite.* at index 1 of list"):
            np.asarray(lazy)

    def test_error_of_dataset(self):
        lazy = LazySamples(Recorder([np.ones(3)] * 3))
        lazy.samples.items = [np.ones(3)]
        with pytest.raises(IndexError) as caught:
            list(lazy)
        assert caught.value.__notes__ == ["Raised at index 1 of Recorder."]


class TestParameters:
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([np.ones(2)])

        def __len__(self):
            return 1

    @pytest.mark.parametrize("samples", [Stream(), DataLoader([1]), iter([1]), 5, None])
    def test_not_map_style(self, samples):
        with pytest.raises(TypeError, match=f"map-style.* Got {type(samples).__name__}"):
            LazySamples(samples)

    def test_empty(self):
        with pytest.raises(ValueError, match="at least one sample"):
            LazySamples([])

    @pytest.mark.parametrize("n_jobs", [1.5, "2", True, 0])
    def test_n_jobs(self, n_jobs):
        with pytest.raises(InvalidParameterError, match=rf"'n_jobs' .* Got {n_jobs!r}"):
            LazySamples(np.ones((2, 2)), n_jobs)


class TestReadAhead:
    @pytest.mark.parametrize("n_threads", [1, 2, 5])
    def test_order(self, n_threads):
        """Also if earlier batches take longer."""

        def read(key):
            time.sleep(0.01 * (4 - key % 4))
            return 10 * key

        expected = [(key, 10 * key) for key in range(9)]
        assert list(read_ahead(read, iter(range(9)), n_threads)) == expected

    def test_reads_concurrently(self):
        """It would wait forever if batches were read one after the other."""
        barrier = threading.Barrier(3, timeout=60)
        assert len(list(read_ahead(lambda key: barrier.wait(), range(6), 3))) == 6

    def test_one_thread_is_the_current_one(self):
        threads = [thread for _, thread in read_ahead(lambda key: threading.get_ident(), "ab", 1)]
        assert threads == [threading.get_ident()] * 2

    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_bounded(self, n_threads):
        """At most one batch per thread is read in advance, and none after the last one used."""
        read = []
        batches = read_ahead(read.append, range(100), n_threads)
        next(batches)
        batches.close()
        assert len(read) <= n_threads + 1

    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_error(self, n_threads):
        batches = read_ahead(lambda key: 1 // (key - 2), range(9), n_threads)
        assert [next(batches), next(batches)] == [(0, -1), (1, -1)]
        with pytest.raises(ZeroDivisionError):
            next(batches)

    def test_number_of_threads(self):
        X = np.ones((2, 3))
        lazy = LazySamples(X, n_jobs=3)
        assert reading_threads(X) == 1
        assert reading_threads(LazySamples(X)) == 1
        assert reading_threads(lazy[:1]) == 3
        assert reading_threads(SliceDict(a=X, b=lazy, c=LazySamples(X, 2))) == 3
        with joblib.parallel_config("threading", n_jobs=4):
            assert reading_threads(LazySamples(X)) == 4


class TestEmbedder:
    @pytest.mark.parametrize("n_jobs", [None, 3])
    @pytest.mark.parametrize(
        "settings",
        [{}, {"early_stopping": True}, {"augment": "crop_flip_erase"}, {"standardize": False}],
        ids=str,
    )
    def test_same_as_in_memory(self, images, embedder, settings, n_jobs):
        X, y = images
        embedder.set_params(**settings)
        expected = embedder.fit(X, y).transform(X)
        lazy = LazySamples(X, n_jobs)
        fitted = clone(embedder).fit(lazy, y)
        assert_array_equal(fitted.transform(lazy), expected)
        assert_array_equal(fitted.transform(X), expected)
        assert_array_equal(clone(embedder).fit_transform(lazy, y), expected)
        assert fitted.score(lazy, y) == embedder.score(X, y)
        assert fitted.input_shape_ == (3, 8, 8)
        assert fitted.n_features_in_ == 192

    def test_floats(self, images, embedder):
        X, y = images[0] / 255, images[1]
        expected = embedder.fit(X, y).transform(X)
        assert_array_equal(embedder.fit(LazySamples(X), y).transform(LazySamples(X)), expected)

    def test_dataset(self, images, embedder):
        X, y = images[0].transpose(0, 3, 1, 2).copy(), images[1]
        expected = embedder.fit(X, y).transform(X)
        dataset = LabeledDataset(X)
        assert_array_equal(embedder.fit(dataset, y).transform(dataset), expected)
        tensors = TensorDataset(torch.from_numpy(X))
        assert_array_equal(embedder.fit(tensors, y).transform(tensors), expected)

    def test_partial_fit(self, images, embedder):
        X, y = images
        for part in (slice(60), slice(60, None)):
            embedder.partial_fit(X[part], y[part])
        expected = embedder.transform(X)
        again = clone(embedder)
        for part in (slice(60), slice(60, None)):
            again.partial_fit(LazySamples(X)[part], y[part])
        assert_array_equal(again.transform(LazySamples(X)), expected)

    def test_reads_few_samples_at_once(self, embedder, monkeypatch):
        """At most a chunk of 16 MB in single precision is converted to an array."""
        X, y = np.zeros((800, 64, 64, 3), np.uint8), np.arange(800) % 2
        X[y == 1] = 255
        sizes = []
        convert = LazySamples.__array__

        def record(self, *args, **kwargs):
            sizes.append(len(self))
            return convert(self, *args, **kwargs)

        monkeypatch.setattr(LazySamples, "__array__", record)
        network = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(48, 4))
        embedder.set_params(module=network, max_epochs=1).fit_transform(LazySamples(X), y)
        assert max(sizes) == 2**22 // 64**2 // 3

    @pytest.mark.parametrize("standardize", [True, False])
    def test_reads_all_samples_once_for_statistics(self, images, embedder, standardize):
        """The others show the type and the range of values, or check the network."""
        X, y = images
        recorder = Recorder(X)
        embedder.set_params(max_epochs=1, standardize=standardize).fit(LazySamples(recorder), y)
        n_others, n_batches = 1 + len(X[::2]) + 2 + len(X), 45  # the last ones for whitening
        n_in_training = n_batches * embedder.batch_size
        assert len(recorder.read) == standardize * len(X) + n_others + n_in_training

    def test_sequences(self):
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(40, 3, 16)).astype(np.float32), np.arange(40) % 2
        embedder = TripletEmbedder(4, input_shape=(3, 16), max_epochs=1, random_state=0)
        expected = embedder.fit(X, y).transform(X)
        assert_array_equal(embedder.fit(LazySamples(X), y).transform(LazySamples(X)), expected)

    def test_several_inputs(self, images):
        class Network(nn.Module):
            def __init__(self, input_shape, n_components):
                super().__init__()
                self.linear = nn.Linear(192 + 2, n_components)

            def forward(self, image, place):
                return self.linear(torch.cat([image.flatten(1), place], dim=1))

        X, y = images
        place = np.random.default_rng(0).normal(size=(len(X), 2)).astype(np.float32)
        embedder = TripletEmbedder(4, module=Network, max_epochs=1, random_state=0)
        inputs = {"image": X.transpose(0, 3, 1, 2).copy(), "place": place}
        expected = embedder.fit(inputs, y).transform(inputs)
        for lazy in (LazySamples(inputs["image"], 2), LabeledDataset(inputs["image"])):
            some = {"image": lazy, "place": place}
            assert_array_equal(embedder.fit(some, y).transform(some), expected)

    def test_unlabeled(self, images, embedder):
        X, y = images[0], np.where(np.arange(120) % 5, images[1], -1)
        expected = embedder.set_params(unlabeled=-1).fit(X, y).transform(X)
        lazy = LazySamples(X)
        assert_array_equal(embedder.fit(lazy, y).transform(lazy), expected)
        assert embedder.score(lazy, y) == embedder.score(X, y)

    def test_net(self, images):
        X, y = images[0].astype(np.float32), images[1]

        def make():
            torch.manual_seed(0)
            module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
            return TripletNet(module, max_epochs=1, verbose=0, random_state=0)

        expected = make().fit(X, y).embed(X)
        assert_array_equal(make().fit(LazySamples(X), y).embed(LazySamples(X)), expected)

    def test_refit_forgets_feature_names(self, images, make_embedder):
        pd = pytest.importorskip("pandas")
        X, y = images
        table = pd.DataFrame(X.reshape(len(X), -1)[:, :3] / 1.0, columns=list("abc"))
        embedder = make_embedder(hidden_layer_sizes=(256, 128), n_members=4, max_epochs=1)
        embedder.fit(table, y)
        embedder.fit(LazySamples(X), y)
        assert not hasattr(embedder, "feature_names_in_")

    def test_other_units(self, images, embedder):
        X, y = images
        embedder.fit(LazySamples(X), y)
        with pytest.warns(InputRangeWarning):
            embedder.transform(LazySamples(X / 255))

    def test_checkpoint(self, images, embedder, tmp_path):
        """It belongs to these samples, whether they are lazy or not."""
        X, y = images
        net = TripletNet(callbacks=[ResumableCheckpoint(tmp_path / "run.pt")])
        embedder.set_params(net=net, max_epochs=1).fit(X, y)
        weights = embedder.net_.module_.state_dict()
        with pytest.raises(ValueError, match="different data"):
            embedder.fit(LazySamples(255 - X), y)
        embedder.fit(LazySamples(X), y)
        assert embedder.n_iter_ == 1
        for name, weight in embedder.net_.module_.state_dict().items():
            assert torch.equal(weight, weights[name])


class TestEmbedderErrors:
    @pytest.mark.parametrize("wrap", [LazySamples, LabeledDataset])
    def test_no_labels(self, images, embedder, wrap):
        with pytest.raises(ValueError, match=r"y is None.* pass those of all samples"):
            embedder.fit(wrap(images[0]), None)

    def test_number_of_labels(self, images, embedder):
        X, y = images
        with pytest.raises(ValueError, match=r"\[120, 119\]"):
            embedder.fit(LazySamples(X), y[:-1])

    def test_table(self, images, embedder):
        X, y = images
        flat = LazySamples(X.reshape(len(X), -1))
        with pytest.raises(ValueError, match=r"must be an array .*\(192,\)"):
            embedder.fit(flat, y)

    def test_images_after_table(self, iris, make_embedder):
        with pytest.raises(ValueError, match=r"\(3, 8, 8\), but .* table of 4 features"):
            make_embedder().fit(*iris).transform(LazySamples(np.ones((3, 8, 8))))

    @pytest.mark.parametrize(("n_samples", "method"), [(1, "fit"), (0, "transform")])
    def test_too_few(self, images, embedder, n_samples, method):
        X, y = images
        embedder.fit(X, y)
        arguments = (y[:n_samples],) if method == "fit" else ()
        with pytest.raises(ValueError, match=rf"Found array with {n_samples} sample"):
            getattr(embedder, method)(LazySamples(X)[:n_samples], *arguments)

    def test_other_shape_than_in_fit(self, images, embedder):
        embedder.fit(*images)
        with pytest.raises(ValueError, match=r"expecting images of shape \(3, 8, 8\)"):
            embedder.transform(LazySamples(np.ones((4, 9, 9, 3), np.uint8)))

    @pytest.mark.parametrize("n_jobs", [None, 2])
    def test_error_before_training(self, images, embedder, spy, n_jobs):
        X, y = images
        items = [*X[:-1], X[-1, :5]]
        epochs = []
        net = TripletNet(callbacks=[spy(on_epoch_begin=lambda net, **_: epochs.append(1))])
        with pytest.raises(ValueError, match="at index 119 of list"):
            embedder.set_params(net=net).fit(LazySamples(items, n_jobs), y)
        assert not epochs
        assert not hasattr(embedder, "net_")


def test_neighbors_display_reads_few_images(images, embedder):
    pytest.importorskip("matplotlib").use("agg")
    X, y = images
    embeddings = embedder.set_params(max_epochs=1).fit_transform(X, y)
    recorder = Recorder(X)
    display = NeighborsDisplay.from_predictions(
        embeddings, y, LazySamples(recorder), queries=[0, 5], n_neighbors=3
    )
    expected = NeighborsDisplay.from_predictions(embeddings, y, X, queries=[0, 5], n_neighbors=3)
    assert_array_equal(display.images, expected.images)
    assert len(recorder.read) <= 1 + 2 * 4


class TestModelSelection:
    def test_cross_validate(self, images, embedder):
        X, y = images
        pipeline = make_pipeline(embedder.set_params(max_epochs=1), KNeighborsClassifier())
        expected = cross_validate(pipeline, X, y, cv=3)
        scores = cross_validate(pipeline, LazySamples(X, 2), y, cv=3, error_score="raise")
        assert_array_equal(scores["test_score"], expected["test_score"])

    @pytest.mark.slow
    def test_grid_search(self, images, embedder):
        X, y = images
        grid = {"lr": [1e-3, 2e-3]}
        search = GridSearchCV(embedder.set_params(max_epochs=1), grid, cv=3, n_jobs=2)
        expected = search.fit(X, y).cv_results_["mean_test_score"]
        scores = search.fit(LazySamples(X), y).cv_results_["mean_test_score"]
        assert_array_equal(scores, expected)

    def test_pair_verifier(self, images, embedder):
        X, y = images
        verifier = PairVerifier(embedder.set_params(max_epochs=1), cv=2)
        expected = clone(verifier).fit(X, y).threshold_
        assert verifier.fit(LazySamples(X), y).threshold_ == expected

    def test_open_set_classifier(self, images, embedder):
        X, y = images
        classifier = OpenSetClassifier(embedder.set_params(max_epochs=1), cv=2)
        expected = clone(classifier).fit(X[:80], y[:80]).enroll(X[80:], y[80:]).predict(X)
        lazy = LazySamples(X)
        classifier.fit(lazy[:80], y[:80]).enroll(lazy[80:], y[80:])
        assert_array_equal(classifier.predict(lazy), expected)
