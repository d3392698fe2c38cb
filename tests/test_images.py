"""Images as people hold them, from the array to the embedding."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sktriplet import TripletEmbedder
from sktriplet.augmentation import crop_erase
from sktriplet.exceptions import InvalidParameterError


@pytest.fixture(scope="module")
def grey(digits):
    """300 images of 8 x 8 pixels, uint8."""
    X, y = digits
    return (X[:300] * 15).astype(np.uint8).reshape(-1, 8, 8), y[:300]


@pytest.fixture(scope="module")
def colour(grey):
    """The same in three shades, channels last."""
    X, y = grey
    return np.stack([X, X[:, ::-1], 255 - X], axis=-1), y


@pytest.fixture
def fast():
    """An embedder whose network sees what it is given, and is small."""

    class Body(torch.nn.Sequential):
        def __init__(self, input_shape, n_components):
            width = int(np.prod(input_shape))
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(width, n_components))
            self.input_shape = input_shape

    def make(**parameters):
        defaults = {"max_epochs": 1, "module": Body, "random_state": 0}
        return TripletEmbedder(4, **(defaults | parameters))

    return make


def test_neighbors_in_a_pipeline(grey):
    X, y = grey
    pipeline = make_pipeline(TripletEmbedder(max_epochs=4, random_state=0), KNeighborsClassifier())
    assert pipeline.fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.8


class TestLayouts:
    def test_grey(self, fast, grey):
        X, y = grey
        expected = fast().fit(X, y)
        assert expected.input_shape_ == (1, 8, 8)
        assert expected.net_.module_.body.input_shape == (1, 8, 8)
        assert expected.n_features_in_ == 64
        for given in (X[:, None], X[..., None]):
            embedder = fast().fit(given, y)
            assert embedder.input_shape_ == (1, 8, 8)
            assert_array_equal(embedder.transform(given), expected.transform(X))

    def test_colour(self, fast, colour):
        X, y = colour
        last = fast().fit(X, y)
        assert last.input_shape_ == (3, 8, 8)
        assert last.n_features_in_ == 192
        first = fast().fit(X.transpose(0, 3, 1, 2), y)
        assert_allclose(first.transform(X), last.transform(X), atol=1e-6)

    def test_flat_rows(self, fast, grey):
        X, y = grey
        flat = fast(input_shape=(1, 8, 8)).fit(X.reshape(-1, 64), y)
        assert flat.input_shape_ == (1, 8, 8)
        assert flat.n_features_in_ == 64
        expected = fast().fit(X, y).transform(X)
        assert_array_equal(flat.transform(X.reshape(-1, 64)), expected)
        assert_array_equal(flat.transform(X), expected)

    def test_flat_rows_of_a_data_frame(self, fast, grey):
        X, y = grey
        frame = pd.DataFrame(X.reshape(-1, 64)).add_prefix("pixel ")
        embedder = fast(input_shape=(1, 8, 8)).fit(frame, y)
        assert embedder.feature_names_in_[3] == "pixel 3"
        with pytest.raises(ValueError, match="feature names"):
            embedder.transform(frame[frame.columns[::-1]])
        assert not hasattr(embedder.fit(X, y), "feature_names_in_")

    def test_many_channels(self, fast, grey):
        X, y = grey
        bands = np.stack([X] * 7, axis=1)
        assert fast(input_shape=(7, 8, 8)).fit(bands, y).input_shape_ == (7, 8, 8)
        last = fast(input_shape=(7, 8, 8)).fit(np.moveaxis(bands, 1, -1), y)
        assert last.transform(bands).shape == (300, 4)

    def test_a_list_of_images(self, fast, grey):
        X, y = grey
        listed = fast().fit(list(X), y)
        assert_array_equal(listed.transform(list(X)), fast().fit(X, y).transform(X))

    def test_behind_another_transformer(self, fast, grey):
        X, y = grey
        pipeline = make_pipeline(PCA(36), fast(input_shape=(1, 6, 6)), KNeighborsClassifier())
        assert pipeline.fit(X.reshape(-1, 64), y).score(X.reshape(-1, 64), y) > 0.3

    @pytest.mark.parametrize("convert", [np.float32, np.float64, np.int64, bool])
    def test_other_types_become_floats(self, fast, grey, convert):
        X, y = grey
        seen = []
        embedder = fast(augment=lambda batch: seen.append(batch.dtype) or batch)
        embedder.fit(X.astype(convert), y)
        assert set(seen) == {torch.float32}
        assert embedder.transform(X.astype(convert)).dtype == np.float32


class TestShapesThatCannotBe:
    @pytest.mark.parametrize(
        ("shape", "input_shape", "message"),
        [
            ((6, 3, 8, 3), None, r"channels first or last. Pass input_shape=\(ch"),
            ((6, 8, 8, 8), None, r"shape \(6, 8, 8, 8\) could hold .* Pass input_shape="),
            ((6, 1, 2, 3, 4), None, r"a table of .* or images .* Got X of shape \(6, 1, 2, 3, 4\)"),
            ((6, 64), (3, 8, 8), r"\(192,\), since input_shape=\(3, 8, 8\). Got .*\(6, 64\)"),
            ((6, 8, 8), (3, 8, 8), r"\(3, 8, 8\) or \(8, 8, 3\) or .* Got X of shape \(6, 8, 8\)"),
            ((6,), (1, 2, 2), r"\(1, 2, 2\).* Got X of shape \(6,\)"),
        ],
    )
    def test_in_fit(self, fast, shape, input_shape, message):
        with pytest.raises(ValueError, match=message):
            fast(input_shape=input_shape).fit(np.zeros(shape), [0, 0, 0, 1, 1, 1])

    @pytest.mark.parametrize("shape", [(5, 9, 8), (5, 64), (5, 3, 8, 8), (5,), (5, 8, 8, 1, 1)])
    def test_in_transform(self, fast, grey, shape):
        embedder = fast().fit(*grey)
        with pytest.raises(ValueError, match=r"X has shape .* expecting images of shape \(1, 8, 8"):
            embedder.transform(np.zeros(shape, np.uint8))

    def test_images_for_a_table(self, fast, grey):
        X, y = grey
        embedder = fast().fit(X.reshape(-1, 64), y)
        with pytest.raises(ValueError, match="dim 3"):
            embedder.transform(X)

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_going_on_with_others(self, fast, grey, method):
        X, y = grey
        embedder = fast(warm_start=True).fit(X, y)
        with pytest.raises(ValueError, match=r"X has shape \(300, 7, 8\), but .* \(1, 8, 8\)"):
            getattr(embedder, method)(X[:, 1:], y)
        with pytest.raises(ValueError, match=r"X has shape \(300, 64\), but .* images"):
            getattr(embedder, method)(X.reshape(-1, 64), y)
        assert embedder.transform(X).shape == (300, 4)

    @pytest.mark.parametrize("input_shape", [(8, 8), 64, (1, 8, 0), (1, 8.0, 8), "188"])
    def test_input_shape(self, grey, input_shape):
        with pytest.raises(InvalidParameterError, match=r"'input_shape'.*list or tuple of 3"):
            TripletEmbedder(input_shape=input_shape).fit(*grey)

    def test_not_a_number(self, fast, grey):
        X = grey[0].astype(np.float32)
        X[3, 2, 1] = np.nan
        with pytest.raises(ValueError, match="X contains NaN"):
            fast().fit(X, grey[1])
        with pytest.raises(ValueError, match="X contains NaN"):
            fast().fit(*grey).transform(X)


class TestAugment:
    def test_in_training_only(self, fast, grey):
        X, y = grey
        seen = []

        def augment(images):
            seen.append((tuple(images.shape[1:]), images.dtype))
            return images.flip(3)

        embedder = fast(augment=augment).fit(X, y)
        assert set(seen) == {((1, 8, 8), torch.uint8)}
        n_seen = len(seen)
        embedder.transform(X)
        assert len(seen) == n_seen
        plain = fast().fit(X[:, :, ::-1].copy(), y)
        assert_array_equal(embedder.transform(X), plain.transform(X))

    def test_what_it_draws_is_seeded(self, fast, grey):
        def augment(images):
            return images.float() + torch.randn(images.shape)

        first, second = (fast(augment=augment).fit(*grey) for _ in range(2))
        assert_array_equal(first.transform(grey[0]), second.transform(grey[0]))

    def test_by_name(self, fast, grey):
        by_name, by_function = (
            fast(augment=augment).fit(*grey) for augment in ("crop_erase", crop_erase)
        )
        assert_array_equal(by_name.transform(grey[0]), by_function.transform(grey[0]))
        plain = fast().fit(*grey)
        assert np.abs(by_name.transform(grey[0]) - plain.transform(grey[0])).max() > 1e-3

    def test_a_name_is_for_images(self, grey):
        X, y = grey
        with pytest.raises(InvalidParameterError, match=r"'augment' .* for images"):
            TripletEmbedder(augment="crop_erase").fit(X.reshape(-1, 64), y)

    @pytest.mark.parametrize("augment", [3, True, "mirror"])
    def test_neither_name_nor_callable(self, grey, augment):
        with pytest.raises(InvalidParameterError, match="'augment'"):
            TripletEmbedder(augment=augment).fit(*grey)


class Block(torch.nn.Module):
    """Two convolutions and a way around them, of He et al. 2015."""

    def __init__(self, n_inputs, n_outputs, stride):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(n_inputs, n_outputs, 3, stride, padding=1, bias=False),
            torch.nn.BatchNorm2d(n_outputs),
            torch.nn.ReLU(inplace=True),
            torch.nn.Conv2d(n_outputs, n_outputs, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(n_outputs),
        )
        self.around = torch.nn.Sequential(
            torch.nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False),
            torch.nn.BatchNorm2d(n_outputs),
        )

    def forward(self, X):
        return torch.relu(self.body(X) + self.around(X))


def resnet(num_classes):
    return torch.nn.Sequential(
        *(Block(3, 16, 1), Block(16, 32, 2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()),
        torch.nn.Linear(32, num_classes),
    )


class TestResNet:
    @pytest.fixture(params=["of the test", "of torchvision"])
    def make(self, request):
        if request.param == "of the test":
            return resnet
        return pytest.importorskip("torchvision").models.resnet18

    def test_a_function(self, make, colour):
        X, y = colour
        embedder = TripletEmbedder(
            module=lambda input_shape, n_components: make(num_classes=n_components),
            max_epochs=2,
            random_state=0,
        )
        pipeline = make_pipeline(embedder, KNeighborsClassifier()).fit(X[:200], y[:200])
        assert pipeline.score(X[200:], y[200:]) > 0.6

    def test_an_instance_that_was_trained(self, make, colour):
        X, y = colour
        module = make(num_classes=10)
        vector = torch.nn.utils.parameters_to_vector
        trained = vector(module.parameters()).detach().clone()
        embedder = TripletEmbedder(None, module=module, lr=1e-9, max_epochs=1, weight_decay=0.0)
        embedder.set_params(random_state=0).fit(X, y)
        assert embedder.transform(X).shape == (300, 10)
        assert torch.equal(vector(module.parameters()), trained)
        assert_allclose(
            vector(embedder.net_.module_.body.parameters()).detach(), trained, atol=1e-6
        )

    def test_of_another_width(self, make, colour):
        with pytest.raises(
            ValueError, match=r"shape \(2, 3, 8, 8\).*\(2, 10\) \(n_components=None"
        ):
            TripletEmbedder(16, module=make(num_classes=10), max_epochs=1).fit(*colour)

    def test_pickled(self, make, colour):
        X, y = colour
        embedder = TripletEmbedder(None, module=make(num_classes=10), max_epochs=1).fit(X, y)
        again = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(again.transform(X), embedder.transform(X))


class TestScikitLearn:
    def test_grid_search(self, fast, grey):
        X, y = grey
        pipeline = make_pipeline(fast(), KNeighborsClassifier())
        search = GridSearchCV(pipeline, {"tripletembedder__margin": [0.1, 0.9]}, cv=2, n_jobs=2)
        fitted = search.set_params(estimator__tripletembedder__module="auto").fit(X, y)
        assert fitted.predict(X).shape == y.shape

    def test_clone_and_pickle(self, grey):
        X, y = grey
        embedder = clone(TripletEmbedder(max_epochs=1, random_state=0)).fit(X, y)
        again = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(again.transform(X), embedder.transform(X))

    def test_going_on(self, grey):
        X, y = grey
        embedder = TripletEmbedder(max_epochs=1, warm_start=True, random_state=0)
        assert embedder.fit(X, y).fit(X, y).partial_fit(X, y).n_iter_ == 3

    def test_early_stopping(self, grey):
        embedder = TripletEmbedder(max_epochs=2, early_stopping=True, random_state=0).fit(*grey)
        assert len(embedder.validation_scores_) == 2

    def test_bfloat16(self, grey):
        X, y = grey
        half = TripletEmbedder(max_epochs=1, precision="bfloat16", random_state=0).fit(X, y)
        assert half.transform(X).dtype == np.float32
        assert_allclose(np.linalg.norm(half.transform(X), axis=1), 1, rtol=1e-5)

    def test_a_memory_map_of_bytes(self, fast, grey, tmp_path):
        X, y = grey
        np.save(tmp_path / "images.npy", X)
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        embedder = fast().fit(mapped, y)
        assert_array_equal(embedder.transform(mapped), fast().fit(X, y).transform(X))
