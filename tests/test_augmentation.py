import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from sktriplet.augmentation import AUGMENTATIONS, crop_erase, crop_flip_erase, flip

every_augmentation = pytest.mark.parametrize("augment", AUGMENTATIONS.values(), ids=AUGMENTATIONS)


def numbered(shape, dtype=torch.float32):
    """Return images whose pixels all differ within an image, none of them zero."""
    _, n_channels, height, width = shape
    one = torch.arange(1, n_channels * height * width + 1).reshape(1, n_channels, height, width)
    return one.expand(shape).to(dtype).contiguous()


def shifted(image, down, right):
    """Move an image, pixel by pixel, over zeros."""
    moved = np.zeros_like(image)
    _, height, width = image.shape
    for row, column in itertools.product(range(height), range(width)):
        if 0 <= row - down < height and 0 <= column - right < width:
            moved[:, row, column] = image[:, row - down, column - right]
    return moved


def is_erased(image, original):
    """Whether all that differs is zero and fills one rectangle, but for what was zero."""
    changed = (image != original).any(axis=0)
    if not changed.any():
        return True
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    sides = (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    fits = all(side <= np.ceil(whole / 2) for side, whole in zip(sides, changed.shape, strict=True))
    return fits and (image[box] == 0).all()


def ways(image, original, reach, flips):
    """List the changes that make the one image of the other: there should be one."""
    down, right = (range(-most, most + 1) for most in reach)
    return [
        (flip, *move)
        for flip in flips
        for move in itertools.product(down, right)
        if is_erased(image, shifted(original[:, :, ::-1] if flip else original, *move))
    ]


@pytest.mark.parametrize(
    ("augment", "flips"),
    [(crop_erase, [False]), (crop_flip_erase, [False, True])],
    ids=["crop_erase", "crop_flip_erase"],
)
@pytest.mark.parametrize(
    ("shape", "reach"),
    [((40, 1, 8, 8), (1, 1)), ((20, 3, 12, 20), (2, 2)), ((10, 2, 28, 11), (4, 1))],
    ids=str,
)
def test_oracle(augment, flips, shape, reach):
    """Each is the image, moved by no more than the reach, with a rectangle erased."""
    torch.manual_seed(0)
    images = numbered(shape)
    seen = []
    for image, original in zip(augment(images).numpy(), images.numpy(), strict=True):
        found = ways(image, original, reach, flips)
        assert len(found) == 1
        seen += found
    assert {flip for flip, *_ in seen} == set(flips)
    for axis in (0, 1):
        assert len({move[axis] for _, *move in seen}) > 1, "images move together"


@pytest.mark.parametrize("augment", [crop_erase, crop_flip_erase])
def test_shifts_and_holes_are_spread_evenly(augment):
    torch.manual_seed(0)
    ones = torch.ones(20_000, 1, 16, 16)
    kept = augment(ones).mean(dim=0)[0]
    # 2 of 5 shifts leave a border pixel empty, and holes take a quarter of a quarter.
    assert 0.33 < kept[0, 0] < 0.38
    assert 0.55 < kept[0, 8] < 0.60
    assert (kept[4:12, 4:12] - 15 / 16).abs().max() < 0.01
    assert torch.allclose(kept, kept.flip(0), atol=0.03)
    assert torch.allclose(kept, kept.flip(1), atol=0.03)
    assert torch.allclose(kept, kept.T, atol=0.03)


def test_flip_does_nothing_else():
    images = numbered((40, 2, 5, 6))
    for image, original in zip(flip(images), images, strict=True):
        assert torch.equal(image, original) != torch.equal(image, original.flip(2))


@pytest.mark.parametrize("augment", [flip, crop_flip_erase])
def test_half_are_mirrored(augment):
    torch.manual_seed(0)
    images = torch.zeros(1000, 1, 8, 8)
    images[..., :3] = 1
    is_mirrored = augment(images)[..., 5:].amax(dim=(1, 2, 3)) > 0
    assert 450 < is_mirrored.sum() < 550


@every_augmentation
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_dtype_and_shape_stay(augment, dtype):
    images = torch.randint(1, 255, (6, 3, 9, 8)).to(dtype)
    augmented = augment(images)
    assert augmented.dtype == dtype
    assert augmented.shape == images.shape


@every_augmentation
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_stays(augment, memory_format):
    images = torch.rand(6, 3, 9, 8).contiguous(memory_format=memory_format)
    assert augment(images).is_contiguous(memory_format=memory_format)


@every_augmentation
def test_input_is_left_alone(augment):
    images = torch.rand(50, 2, 8, 8)
    before = images.clone()
    augmented = augment(images)
    assert torch.equal(images, before)
    augmented.zero_()
    assert torch.equal(images, before)


@every_augmentation
def test_the_global_seed_decides(augment):
    images = numbered((30, 1, 8, 8))

    def drawn(seed):
        torch.manual_seed(seed)
        return augment(images)

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert not torch.equal(augment(images), augment(images)), "a batch like the one before"


@every_augmentation
def test_dtype_does_not_change_the_draw(augment):
    images = numbered((20, 1, 8, 8), torch.uint8)

    def drawn(images):
        torch.manual_seed(0)
        return augment(images)

    assert_array_equal(drawn(images), drawn(images.float()))


@every_augmentation
@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (3, 1, 1, 1), (2, 4, 1, 30)], ids=str)
def test_odd_sizes(augment, shape):
    assert augment(torch.ones(shape)).shape == shape


@every_augmentation
def test_not_images(augment):
    with pytest.raises(ValueError, match=r"^images must be .* Got one of shape \(5, 64\)"):
        augment(torch.ones(5, 64))


@pytest.mark.gpu
@every_augmentation
def test_devices_draw_alike(augment):
    images = numbered((30, 3, 12, 12))

    def drawn(images):
        torch.manual_seed(0)
        return augment(images).cpu()

    assert torch.equal(drawn(images), drawn(images.cuda()))
