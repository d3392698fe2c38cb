import itertools
from math import exp, log, radians

import numpy as np
import pytest
import torch

from sktriplet.augmentation import AUGMENTATIONS, affine, crop_erase, crop_flip_erase, flip

every_augmentation = pytest.mark.parametrize("augment", AUGMENTATIONS.values(), ids=AUGMENTATIONS)


def distinct_pixels(shape, dtype=torch.float32):
    """Make equal images in which all pixels differ and none is zero."""
    _, n_channels, height, width = shape
    one = torch.arange(1, n_channels * height * width + 1).reshape(1, n_channels, height, width)
    return one.expand(shape).to(dtype).contiguous()


def seeded(augment, images, seed=0):
    torch.manual_seed(seed)
    return augment(images)


def shifted(image, down, right):
    """Shift an image, pixel by pixel, and pad it with zeros."""
    moved = np.zeros_like(image)
    _, height, width = image.shape
    for row, column in itertools.product(range(height), range(width)):
        if 0 <= row - down < height and 0 <= column - right < width:
            moved[:, row, column] = image[:, row - down, column - right]
    return moved


def is_erased(image, original):
    """Return whether the pixels that differ are zero and fill one small enough rectangle."""
    changed = (image != original).any(axis=0)
    if not changed.any():
        return True
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    sides = (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    fits = all(side <= np.ceil(whole / 2) for side, whole in zip(sides, changed.shape, strict=True))
    return fits and (image[box] == 0).all()


def explanations(image, original, max_shift, flips):
    """List the flips and shifts that, with one erased rectangle, result in the image."""
    down, right = (range(-most, most + 1) for most in max_shift)
    return [
        (is_flipped, *shift)
        for is_flipped in flips
        for shift in itertools.product(down, right)
        if is_erased(image, shifted(original[:, :, ::-1] if is_flipped else original, *shift))
    ]


@pytest.mark.parametrize(
    ("augment", "flips"),
    [(crop_erase, [False]), (crop_flip_erase, [False, True])],
    ids=["crop_erase", "crop_flip_erase"],
)
@pytest.mark.parametrize(
    ("shape", "max_shift"),
    [((40, 1, 8, 8), (1, 1)), ((20, 3, 12, 20), (2, 2)), ((10, 2, 28, 11), (4, 1))],
    ids=str,
)
def test_crop_erase_definition(augment, flips, shape, max_shift):
    images = distinct_pixels(shape)
    found = []
    for image, original in zip(seeded(augment, images).numpy(), images.numpy(), strict=True):
        (explanation,) = explanations(image, original, max_shift, flips)
        found.append(explanation)
    assert {is_flipped for is_flipped, *_ in found} == set(flips)
    for axis in (1, 2):
        assert len({explanation[axis] for explanation in found}) > 1, "images shift together"


@pytest.mark.parametrize("augment", [crop_erase, crop_flip_erase])
def test_crop_erase_distribution(augment):
    images = torch.ones(20_000, 1, 16, 16)
    kept = seeded(augment, images).mean(dim=0)[0]
    # 2 of 5 shifts uncover a border pixel, and the rectangle takes 1/16 of the image on average.
    assert 0.33 < kept[0, 0] < 0.38
    assert 0.55 < kept[0, 8] < 0.60
    assert (kept[4:12, 4:12] - 15 / 16).abs().max() < 0.01
    assert torch.allclose(kept, kept.flip(0), atol=0.03)
    assert torch.allclose(kept, kept.flip(1), atol=0.03)
    assert torch.allclose(kept, kept.T, atol=0.03)


def test_flip_definition():
    images = distinct_pixels((40, 2, 5, 6))
    for image, original in zip(flip(images), images, strict=True):
        assert torch.equal(image, original) != torch.equal(image, original.flip(2))


def value_at(image, row, column):
    """Interpolate an image bilinearly; beyond its border, it has the values of its border."""
    height, width = image.shape
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    top, left = min(int(row), max(height - 2, 0)), min(int(column), max(width - 2, 0))
    down, right = row - top, column - left
    weights = np.outer([1 - down, down], [1 - right, right])[: height - top, : width - left]
    return (weights * image[top : top + 2, left : left + 2]).sum()


def transformed(image, angle, scale, shift_down, shift_right):
    """Rotate, scale and shift an image about its center, pixel by pixel."""
    height, width = image.shape
    result = np.empty((height, width))
    for row, column in itertools.product(range(height), range(width)):
        y, x = row - (height - 1) / 2, column - (width - 1) / 2
        source_x = scale * (np.cos(angle) * x - np.sin(angle) * y) + shift_right * width
        source_y = scale * (np.sin(angle) * x + np.cos(angle) * y) + shift_down * height
        result[row, column] = value_at(
            image, source_y + (height - 1) / 2, source_x + (width - 1) / 2
        )
    return result


@pytest.mark.parametrize("shape", [(5, 1, 9, 9), (5, 2, 6, 13), (5, 1, 16, 5)], ids=str)
def test_affine_definition(shape):
    images = torch.rand(shape)
    torch.manual_seed(0)
    angle, scale, right, down = (2 * torch.rand(4, len(images)) - 1).double().numpy()
    expected = [
        [
            transformed(
                channel.numpy(),
                radians(10) * angle[i],
                exp(log(1.1) * scale[i]),
                0.08 * down[i],
                0.08 * right[i],
            )
            for channel in images[i]
        ]
        for i in range(len(images))
    ]
    np.testing.assert_allclose(seeded(affine, images), expected, atol=1e-5)


def test_affine_keeps_constant_images():
    images = torch.full((50, 3, 7, 9), 200, dtype=torch.uint8)
    assert torch.equal(affine(images), images)


@pytest.mark.parametrize("augment", [flip, crop_flip_erase])
def test_flip_probability(augment):
    images = torch.zeros(1000, 1, 8, 8)
    images[..., :3] = 1
    is_flipped = seeded(augment, images)[..., 5:].amax(dim=(1, 2, 3)) > 0
    assert 450 < is_flipped.sum() < 550


@every_augmentation
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_dtype_and_shape(augment, dtype):
    images = torch.randint(1, 255, (6, 3, 9, 8)).to(dtype)
    augmented = augment(images)
    assert augmented.dtype == dtype
    assert augmented.shape == images.shape


@every_augmentation
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format(augment, memory_format):
    images = torch.rand(6, 3, 9, 8).contiguous(memory_format=memory_format)
    assert augment(images).is_contiguous(memory_format=memory_format)


@every_augmentation
def test_input_not_modified(augment):
    images = torch.rand(50, 2, 8, 8)
    before = images.clone()
    augmented = augment(images)
    assert torch.equal(images, before)
    augmented.zero_()
    assert torch.equal(images, before)


@every_augmentation
def test_seed(augment):
    images = distinct_pixels((30, 1, 8, 8))
    assert torch.equal(seeded(augment, images, 0), seeded(augment, images, 0))
    assert not torch.equal(seeded(augment, images, 0), seeded(augment, images, 1))
    assert not torch.equal(augment(images), augment(images)), "batches are augmented equally"


@every_augmentation
def test_seed_across_dtypes(augment):
    images = distinct_pixels((20, 1, 8, 8), torch.uint8)
    same_pixels = seeded(augment, images.float())
    if augment is affine:  # It interpolates, and rounds integers.
        same_pixels = same_pixels.round()
    assert torch.equal(seeded(augment, images).float(), same_pixels)


@pytest.mark.gpu
@every_augmentation
def test_seed_across_devices(augment):
    images = distinct_pixels((30, 3, 12, 12))
    on_gpu = seeded(augment, images.cuda()).cpu()
    torch.testing.assert_close(on_gpu, seeded(augment, images), rtol=1e-5, atol=1e-3)


@every_augmentation
@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (3, 1, 1, 1), (2, 4, 1, 30)], ids=str)
def test_small_shapes(augment, shape):
    assert augment(torch.ones(shape)).shape == shape


@every_augmentation
def test_invalid_shape(augment):
    with pytest.raises(ValueError, match=r"^images must .* Got shape \(5, 64\)"):
        augment(torch.ones(5, 64))
