"""Images: their layouts, augmentation, and custom networks."""

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
from sktriplet.exceptions import InputRangeWarning, InvalidParameterError


@pytest.fixture(scope="module")
def gray(digits):
    """300 uint8 images of 8 x 8 pixels."""
    X, y = digits
    return (X[:300] * 15).astype(np.uint8).reshape(-1, 8, 8), y[:300]


@pytest.fixture(scope="module")
def color(gray):
    """The same with three channels, channels last."""
    X, y = gray
    return np.stack([X, X[:, ::-1], 255 - X], axis=-1), y


@pytest.fixture
def make_linear():
    """Make an embedder with a linear network."""

    class Linear(torch.nn.Sequential):
        def __init__(self, input_shape, n_components):
            width = int(np.prod(input_shape))
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(width, n_components))
            self.input_shape = input_shape

    def make(**parameters):
        defaults = {"max_epochs": 1, "module": Linear, "random_state": 0}
        return TripletEmbedder(4, **(defaults | parameters))

    return make


def test_pipeline(gray):
    X, y = gray
    pipeline = make_pipeline(TripletEmbedder(max_epochs=4, random_state=0), KNeighborsClassifier())
    assert pipeline.fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.8


class TestLayouts:
    def test_gray(self, make_linear, gray):
        X, y = gray
        expected = make_linear().fit(X, y)
        assert expected.input_shape_ == (1, 8, 8)
        assert expected.net_.module_.backbone.input_shape == (1, 8, 8)
        assert expected.n_features_in_ == 64
        for given in (X[:, None], X[..., None]):
            embedder = make_linear().fit(given, y)
            assert embedder.input_shape_ == (1, 8, 8)
            assert_array_equal(embedder.transform(given), expected.transform(X))

    def test_color(self, make_linear, color):
        X, y = color
        last = make_linear().fit(X, y)
        assert last.input_shape_ == (3, 8, 8)
        assert last.n_features_in_ == 192
        first = make_linear().fit(X.transpose(0, 3, 1, 2), y)
        assert_allclose(first.transform(X), last.transform(X), atol=1e-6)

    def test_flat(self, make_linear, gray):
        X, y = gray
        flat = make_linear(input_shape=(1, 8, 8)).fit(X.reshape(-1, 64), y)
        assert flat.input_shape_ == (1, 8, 8)
        assert flat.n_features_in_ == 64
        expected = make_linear().fit(X, y).transform(X)
        assert_array_equal(flat.transform(X.reshape(-1, 64)), expected)
        assert_array_equal(flat.transform(X), expected)

    def test_flat_dataframe(self, make_linear, gray):
        X, y = gray
        frame = pd.DataFrame(X.reshape(-1, 64)).add_prefix("pixel ")
        embedder = make_linear(input_shape=(1, 8, 8)).fit(frame, y)
        assert embedder.feature_names_in_[3] == "pixel 3"
        with pytest.raises(ValueError, match="feature names"):
            embedder.transform(frame[frame.columns[::-1]])
        assert not hasattr(embedder.fit(X, y), "feature_names_in_")

    def test_many_channels(self, make_linear, gray):
        X, y = gray
        bands = np.stack([X] * 7, axis=1)
        assert make_linear(input_shape=(7, 8, 8)).fit(bands, y).input_shape_ == (7, 8, 8)
        last = make_linear(input_shape=(7, 8, 8)).fit(np.moveaxis(bands, 1, -1), y)
        assert last.transform(bands).shape == (300, 4)

    def test_list(self, make_linear, gray):
        X, y = gray
        listed = make_linear(augment=None).fit(list(X), y)
        expected = make_linear(augment=None).fit(X, y).transform(X)
        assert_array_equal(listed.transform(list(X)), expected)

    def test_after_pca(self, make_linear, gray):
        X, y = gray
        pipeline = make_pipeline(
            PCA(36), make_linear(input_shape=(1, 6, 6)), KNeighborsClassifier()
        )
        assert pipeline.fit(X.reshape(-1, 64), y).score(X.reshape(-1, 64), y) > 0.3

    @pytest.mark.parametrize("convert", [np.float32, np.float64, np.int64, bool])
    def test_dtypes_are_converted_to_float32(self, make_linear, gray, convert):
        X, y = gray
        seen = []
        embedder = make_linear(augment=lambda batch: seen.append(batch.dtype) or batch)
        embedder.fit(X.astype(convert), y)
        assert set(seen) == {torch.float32}
        assert embedder.transform(X.astype(convert)).dtype == np.float32


class TestInvalidShape:
    @pytest.mark.parametrize(
        ("shape", "input_shape", "match"),
        [
            ((6, 3, 8, 3), None, r"\(6, 3, 8, 3\).*input_shape="),
            ((6, 8, 8, 8), None, r"\(6, 8, 8, 8\).*input_shape="),
            ((6, 1, 2, 3, 4), None, r"X .*\(6, 1, 2, 3, 4\)"),
            ((6, 64), (3, 8, 8), r"\(192,\).*\(6, 64\)"),
            ((6, 8, 8), (3, 8, 8), r"\(3, 8, 8\) or \(8, 8, 3\).*\(6, 8, 8\)"),
            ((6,), (1, 2, 2), r"\(1, 2, 2\).*\(6,\)"),
        ],
    )
    def test_fit(self, make_linear, shape, input_shape, match):
        with pytest.raises(ValueError, match=match):
            make_linear(input_shape=input_shape).fit(np.zeros(shape), [0, 0, 0, 1, 1, 1])

    @pytest.mark.parametrize("shape", [(5, 9, 8), (5, 64), (5, 3, 8, 8), (5,), (5, 8, 8, 1, 1)])
    def test_transform(self, make_linear, gray, shape):
        embedder = make_linear().fit(*gray)
        with pytest.raises(ValueError, match=r"X has shape .*\(1, 8, 8\)"):
            embedder.transform(np.zeros(shape, np.uint8))

    def test_images_after_table(self, make_linear, gray):
        X, y = gray
        embedder = make_linear().fit(X.reshape(-1, 64), y)
        with pytest.raises(ValueError, match="dim 3"):
            embedder.transform(X)

    def test_nan(self, make_linear, gray):
        embedder = make_linear().fit(*gray)
        with pytest.raises(ValueError, match="X contains NaN"):
            embedder.transform(np.full((2, 8, 8), np.nan))

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_other_images(self, make_linear, gray, method):
        X, y = gray
        embedder = make_linear(warm_start=True).fit(X, y)
        with pytest.raises(ValueError, match=r"X has shape \(300, 7, 8\).*\(1, 8, 8\)"):
            getattr(embedder, method)(X[:, 1:], y)
        with pytest.raises(ValueError, match=r"X has shape \(300, 64\).*images"):
            getattr(embedder, method)(X.reshape(-1, 64), y)
        assert embedder.transform(X).shape == (300, 4)


class TestRange:
    """Images that are divided by 255 in either fit or transform, which is not an error."""

    @pytest.mark.parametrize("divided", [lambda X: X / 255, lambda X: X / 127.5 - 1])
    @pytest.mark.parametrize("whole", [np.uint8, np.float64])
    def test_warns_of_both_directions(self, make_linear, gray, divided, whole):
        X, y = gray
        X = whole(X)
        ranges = (
            r"whole numbers from 0 to 240",
            r"fractional numbers from (0|-1) to 0\.(941|882)",
        )
        with pytest.warns(InputRangeWarning, match="{}.*{}".format(*ranges[::-1])) as caught:
            make_linear().fit(X, y).transform(divided(X))
        assert caught[0].filename == __file__
        with pytest.warns(InputRangeWarning, match="{}.*{}".format(*ranges)):
            make_linear().fit(divided(X), y).transform(X)

    @pytest.mark.filterwarnings("ignore::sktriplet.exceptions.CollapseWarning")
    def test_warns_in_training(self, make_linear, gray):
        X, y = gray
        embedder = make_linear().partial_fit(X, y)
        with pytest.warns(InputRangeWarning):
            embedder.partial_fit(X / 255, y)
        with pytest.warns(InputRangeWarning):
            embedder.transform(X / 255)

    def test_warns_of_sequences(self, make_linear, gray):
        X, y = gray
        embedder = make_linear(input_shape=(8, 8)).fit(X.astype(np.int16), y)
        with pytest.warns(InputRangeWarning):
            embedder.transform(X / 255)

    @pytest.mark.parametrize(
        ("in_fit", "now"),
        [
            (lambda X: X, lambda X: X // 128),  # dark
            (lambda X: X, lambda X: 0 * X),
            (lambda X: X, lambda X: 0.0 * X),
            (lambda X: X, lambda X: X + 0.25),  # resized in floating point
            (lambda X: X / 255, lambda X: X // 128),  # binary
            (lambda X: X / 255, lambda X: X / 2550),
            (lambda X: X / 255, lambda X: X > 128),
            (lambda X: X / 2, lambda X: X / 255),  # neither is whole
        ],
    )
    def test_no_false_alarm(self, make_linear, gray, in_fit, now):
        X, y = gray
        make_linear().fit(in_fit(X), y).transform(now(X))

    def test_not_of_tables(self, make_embedder, gray):
        X, y = gray[0].reshape(-1, 64), gray[1]
        make_embedder().fit(X, y).transform(X / 255)


class TestAugment:
    def test_only_in_training(self, make_linear, gray):
        X, y = gray
        seen = []

        def augment(images):
            seen.append((tuple(images.shape[1:]), images.dtype))
            return images.flip(3)

        embedder = make_linear(augment=augment, whiten=False).fit(X, y)
        assert set(seen) == {((1, 8, 8), torch.uint8)}
        n_batches = len(seen)
        embedder.transform(X)
        assert len(seen) == n_batches
        plain = make_linear(augment=None, whiten=False).fit(X[:, :, ::-1].copy(), y)
        assert_array_equal(embedder.transform(X), plain.transform(X))

    def test_is_seeded(self, make_linear, gray):
        def augment(images):
            return images.float() + torch.randn(images.shape)

        first, second = (make_linear(augment=augment).fit(*gray) for _ in range(2))
        assert_array_equal(first.transform(gray[0]), second.transform(gray[0]))

    def test_name(self, make_linear, gray):
        by_name, by_function = (
            make_linear(augment=augment).fit(*gray) for augment in ("crop_erase", crop_erase)
        )
        assert_array_equal(by_name.transform(gray[0]), by_function.transform(gray[0]))
        plain = make_linear().fit(*gray)
        assert np.abs(by_name.transform(gray[0]) - plain.transform(gray[0])).max() > 1e-3

    def test_default(self, make_linear, gray):
        X, y = gray
        default, same = make_linear().fit(X, y), make_linear(augment="affine").fit(X, y)
        assert_array_equal(default.transform(X), same.transform(X))
        assert make_linear().fit(X.reshape(-1, 64), y).net_.module.augment is None

    def test_name_needs_images(self, gray):
        X, y = gray
        with pytest.raises(InvalidParameterError, match=r"'augment' parameter.* images"):
            TripletEmbedder(augment="crop_erase").fit(X.reshape(-1, 64), y)


class Block(torch.nn.Module):
    """Two convolutions with a skip connection (He et al. 2015)."""

    def __init__(self, n_inputs, n_outputs, stride):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(n_inputs, n_outputs, 3, stride, padding=1, bias=False),
            torch.nn.BatchNorm2d(n_outputs),
            torch.nn.ReLU(inplace=True),
            torch.nn.Conv2d(n_outputs, n_outputs, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(n_outputs),
        )
        self.shortcut = torch.nn.Sequential(
            torch.nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False),
            torch.nn.BatchNorm2d(n_outputs),
        )

    def forward(self, X):
        return torch.relu(self.body(X) + self.shortcut(X))


def resnet(num_classes):
    return torch.nn.Sequential(
        *(Block(3, 16, 1), Block(16, 32, 2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()),
        torch.nn.Linear(32, num_classes),
    )


class TestResNet:
    @pytest.fixture(params=["small", "torchvision"])
    def make_resnet(self, request):
        if request.param == "small":
            return resnet
        return pytest.importorskip("torchvision").models.resnet18

    def test_factory(self, make_resnet, color):
        X, y = color
        embedder = TripletEmbedder(
            module=lambda input_shape, n_components: make_resnet(num_classes=n_components),
            max_epochs=2,
            random_state=0,
        )
        pipeline = make_pipeline(embedder, KNeighborsClassifier()).fit(X[:200], y[:200])
        assert pipeline.score(X[200:], y[200:]) > 0.6

    def test_pretrained_instance(self, make_resnet, color):
        X, y = color
        module = make_resnet(num_classes=10)
        vector = torch.nn.utils.parameters_to_vector
        trained = vector(module.parameters()).detach().clone()
        embedder = TripletEmbedder(None, module=module, lr=1e-9, max_epochs=1, weight_decay=0.0)
        embedder.set_params(random_state=0).fit(X, y)
        assert embedder.transform(X).shape == (300, 10)
        assert torch.equal(vector(module.parameters()), trained)
        assert_allclose(
            vector(embedder.net_.module_.backbone.parameters()).detach(), trained, atol=1e-6
        )

    def test_other_n_components(self, make_resnet, color):
        with pytest.raises(ValueError, match=r"'module' parameter.*\(2, 10\)"):
            TripletEmbedder(16, module=make_resnet(num_classes=10), max_epochs=1).fit(*color)

    def test_pickle(self, make_resnet, color):
        X, y = color
        embedder = TripletEmbedder(None, module=make_resnet(num_classes=10), max_epochs=1).fit(X, y)
        again = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(again.transform(X), embedder.transform(X))


class TestScikitLearn:
    @pytest.mark.slow
    def test_grid_search(self, make_linear, gray):
        X, y = gray
        pipeline = make_pipeline(make_linear(), KNeighborsClassifier())
        search = GridSearchCV(pipeline, {"tripletembedder__margin": [0.1, 0.9]}, cv=2, n_jobs=2)
        fitted = search.set_params(estimator__tripletembedder__module="auto").fit(X, y)
        assert fitted.predict(X).shape == y.shape

    def test_clone_and_pickle(self, gray):
        X, y = gray
        embedder = clone(TripletEmbedder(max_epochs=1, random_state=0)).fit(X, y)
        again = pickle.loads(pickle.dumps(embedder))
        assert_array_equal(again.transform(X), embedder.transform(X))

    def test_warm_start_and_partial_fit(self, gray):
        X, y = gray
        embedder = TripletEmbedder(max_epochs=1, warm_start=True, random_state=0)
        assert embedder.fit(X, y).fit(X, y).partial_fit(X, y).n_iter_ == 3

    def test_early_stopping(self, gray):
        embedder = TripletEmbedder(max_epochs=2, early_stopping=True, random_state=0).fit(*gray)
        assert len(embedder.validation_scores_) == 2

    def test_bfloat16(self, gray):
        X, y = gray
        half = TripletEmbedder(max_epochs=1, precision="bfloat16", random_state=0).fit(X, y)
        assert half.transform(X).dtype == np.float32
        assert_allclose(np.linalg.norm(half.transform(X), axis=1), 1, rtol=1e-5)

    def test_memory_map(self, make_linear, gray, tmp_path):
        X, y = gray
        np.save(tmp_path / "images.npy", X)
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        embedder = make_linear().fit(mapped, y)
        assert_array_equal(embedder.transform(mapped), make_linear().fit(X, y).transform(X))
