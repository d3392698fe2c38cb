import base64
import io

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sktriplet._lazy_samples import LazySamples
from sktriplet.display._thumbnails import encode_thumbnails
from sktriplet.exceptions import ThumbnailWarning

Image = pytest.importorskip("PIL.Image")


def decode(text):
    _, _, code = text.partition("base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))


def test_small_images_are_exact(rng):
    images = rng.integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
    thumbnails, positions = encode_thumbnails(images)
    assert_array_equal(positions, range(5))
    assert_array_equal([decode(text) for text in thumbnails], images)
    assert all(text.startswith("data:image/png;base64,") for text in thumbnails)


def test_large_images_are_downscaled():
    images = np.zeros((2, 200, 100, 3), np.uint8)
    images[1, :, 50:] = 255
    thumbnails, _ = encode_thumbnails(images)
    assert all(text.startswith("data:image/jpeg;base64,") for text in thumbnails)
    half = decode(thumbnails[1])
    assert half.shape == (64, 32, 3)
    assert half[:, :12].max() < 30
    assert half[:, 20:].min() > 225


def test_equal_images_share_a_thumbnail(rng):
    images = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)[[0, 1, 0, 2, 1]]
    thumbnails, positions = encode_thumbnails(images)
    assert len(thumbnails) == 3
    assert_array_equal(positions, [0, 1, 0, 2, 1])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.array([[[0.0, 16.0]], [[8.0, 4.0]]]), [[[0, 255]], [[128, 64]]]),
        (np.full((1, 2, 2), 7), [[[0, 0], [0, 0]]]),
        (np.full((1, 1, 1, 3), 0.2), [[[[51, 51, 51]]]]),
        (np.array([[0, 1, 2, 3]]), [[[0, 85], [170, 255]]]),
        (np.array([[[[0, 9]], [[255, 9]], [[51, 9]]]], np.uint8), [[[[0, 255, 51], [9, 9, 9]]]]),
        (np.array([[[0, 255]]], np.uint8)[..., None], [[[0, 255]]]),
    ],
    ids=["gray", "constant", "color", "flat", "channels first", "one channel"],
)
def test_values_and_layouts(images, expected):
    thumbnails, positions = encode_thumbnails(images)
    assert_array_equal([decode(thumbnails[position]) for position in positions], expected)


def test_limit_shrinks_thumbnails(rng):
    images = rng.integers(0, 256, (20, 64, 64), dtype=np.uint8)
    with pytest.warns(ThumbnailWarning, match=r"32 pixels .* instead of 64, and 0 of 20") as record:
        thumbnails, positions = encode_thumbnails(images, max_bytes=35_000)
    assert record[0].filename
    assert {decode(text).shape for text in thumbnails} == {(32, 32)}
    assert sum(map(len, thumbnails)) <= 35_000
    assert (positions >= 0).all()


def test_limit_drops_thumbnails(rng):
    """Of those that are left, as many are at the start as at the end."""
    images = rng.integers(0, 256, (1000, 16, 16), dtype=np.uint8)
    with pytest.warns(ThumbnailWarning, match=r"16 pixels .* of 1000 images have none"):
        thumbnails, positions = encode_thumbnails(images, max_bytes=100_000)
    assert 80_000 < sum(map(len, thumbnails)) <= 100_000
    first, last = np.array_split(positions >= 0, 2)
    assert first.sum() == pytest.approx(last.sum(), abs=5)


def test_lazy_images(rng):
    images = rng.integers(0, 256, (300, 4, 4), dtype=np.uint8)
    lazy = LazySamples(list(images))
    assert encode_thumbnails(lazy)[0] == encode_thumbnails(images)[0]


def test_other_numbers_of_channels():
    with pytest.raises(ValueError, match=r"channels\. Got an array of shape \(3, 8, 8, 2\)"):
        encode_thumbnails(np.zeros((3, 8, 8, 2)))
