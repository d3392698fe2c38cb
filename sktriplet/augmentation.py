"""Random augmentations of image batches, drawn independently for each image."""

from collections.abc import Callable
from math import log1p, radians

import torch
from torch import Tensor
from torch.nn import functional as F

Augmentation = Callable[[Tensor], Tensor]

# Maximum shift and maximum side of the erased rectangle, as fractions of the image's sides.
MAX_SHIFT, MAX_ERASED = 1 / 8, 1 / 2

# Maximum rotation, relative change of size, and shift as a fraction of the image's sides.
AFFINE_ROTATION, AFFINE_SCALING, AFFINE_SHIFT = radians(10), 0.1, 0.08


def affine(images: Tensor) -> Tensor:
    """Rotate, scale and shift each image slightly.

    The rotation is uniform between -10 and 10 degrees, the shift uniform up to 8% of the height and
    of the width in either direction, and the scale log-uniform between 1 / 1.1 and 1.1, as for
    images of objects that are not perfectly aligned. Pixels are interpolated bilinearly, and
    uncovered ones have the value of the nearest pixel of the border. Pixels remain square in
    images that are not.

    Parameters
    ----------
    images : Tensor of shape (B, C, H, W)
        Images of any dtype, on any device. Not modified.

    Returns
    -------
    augmented : Tensor of shape (B, C, H, W)
        New tensor of the same dtype, device and memory format, computed in float32. Integers are
        rounded.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.augmentation import affine
    >>> _ = torch.manual_seed(0)
    >>> images = torch.zeros(100, 1, 9, 9, dtype=torch.uint8)
    >>> images[:, 0, 4] = 255  # a horizontal line
    >>> augmented = affine(images)
    >>> augmented.shape, augmented.dtype
    (torch.Size([100, 1, 9, 9]), torch.uint8)
    """
    _check_images(images)
    n_images, _, height, width = images.shape
    if not n_images:
        return images.clone()

    def draw(maximum: float) -> Tensor:
        return (2 * _uniform(n_images, images.device) - 1) * maximum

    angle, scale = draw(AFFINE_ROTATION), draw(log1p(AFFINE_SCALING)).exp()
    cos, sin, aspect = angle.cos() * scale, angle.sin() * scale, height / width
    # Sides have a length of 2 in the coordinates of the grid.
    rows = [cos, -sin * aspect, 2 * draw(AFFINE_SHIFT), sin / aspect, cos, 2 * draw(AFFINE_SHIFT)]
    transforms = torch.stack(rows, dim=1).reshape(n_images, 2, 3)
    grid = F.affine_grid(transforms, list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    if not images.is_floating_point():
        moved = moved.round_()
    return moved.to(images.dtype).contiguous(memory_format=_memory_format(images))


def flip(images: Tensor) -> Tensor:
    """Flip each image horizontally with probability 0.5.

    Suitable for objects that may face either way, but not for digits or letters. This is the
    built-in augmentation that slows training least.

    Parameters
    ----------
    images : Tensor of shape (B, C, H, W)
        Images of any dtype, on any device. Not modified.

    Returns
    -------
    augmented : Tensor of shape (B, C, H, W)
        New tensor of the same dtype, device and memory format.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.augmentation import flip
    >>> _ = torch.manual_seed(0)
    >>> flip(torch.tensor([[1, 2, 3]] * 4)[:, None, None]).flatten(1).tolist()
    [[3, 2, 1], [1, 2, 3], [3, 2, 1], [3, 2, 1]]
    """
    _check_images(images)
    is_flipped = _uniform(len(images), images.device) < 0.5
    return torch.where(is_flipped[:, None, None, None], images.flip(3), images)


def crop_erase(images: Tensor) -> Tensor:
    """Shift each image randomly, and erase a random rectangle.

    The shift range is 1/8 of the height and of the width, at least one pixel, in either
    direction; this equals a random crop of the zero-padded image [1]_. The sides of the erased
    rectangle are uniform between 0 and 1/2 of the image's sides, and its center is uniform over
    the image, so it may extend beyond the border [2]_. Uncovered and erased pixels are zero.

    Parameters
    ----------
    images : Tensor of shape (B, C, H, W)
        Images of any dtype, on any device. Not modified.

    Returns
    -------
    augmented : Tensor of shape (B, C, H, W)
        New tensor of the same dtype, device and memory format.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR
       2016, section 4.2.
    .. [2] DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks
       with Cutout", arXiv:1708.04552 (2017); Zhong et al., "Random Erasing Data
       Augmentation", AAAI 2020.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.augmentation import crop_erase
    >>> images = torch.full((100, 1, 8, 8), 255, dtype=torch.uint8)
    >>> augmented = crop_erase(images)
    >>> augmented.shape, augmented.dtype, augmented.unique().tolist()
    (torch.Size([100, 1, 8, 8]), torch.uint8, [0, 255])
    """
    _check_images(images)
    return _erase_rectangle_(_shift(images))


def crop_flip_erase(images: Tensor) -> Tensor:
    """Apply `flip`, then `crop_erase`.

    Parameters
    ----------
    images : Tensor of shape (B, C, H, W)
        Images of any dtype, on any device. Not modified.

    Returns
    -------
    augmented : Tensor of shape (B, C, H, W)
        New tensor of the same dtype, device and memory format.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.augmentation import crop_flip_erase
    >>> crop_flip_erase(torch.rand(100, 3, 32, 32)).shape
    torch.Size([100, 3, 32, 32])
    """
    return crop_erase(flip(images))


AUGMENTATIONS: dict[str, Augmentation] = {
    "affine": affine,
    "flip": flip,
    "crop_erase": crop_erase,
    "crop_flip_erase": crop_flip_erase,
}


def _check_images(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(
            "images must be a tensor of shape (n_images, n_channels, height, width). "
            f"Got shape {tuple(images.shape)}."
        )


def _uniform(size: int, device: torch.device) -> Tensor:
    """Draw on the CPU, so a seed has the same effect on every device."""
    return torch.rand(size, dtype=torch.float32).to(device)


def _shift(images: Tensor) -> Tensor:
    n_images, _, height, width = images.shape
    max_shift = [max(1, round(side * MAX_SHIFT)) for side in (height, width)]
    padded = F.pad(images, (max_shift[1], max_shift[1], max_shift[0], max_shift[0]))
    # All crops of the padded images, as a view; only the selected ones are copied.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    top, left = ((_uniform(n_images, images.device) * (2 * m + 1)).long() for m in max_shift)
    shifted = crops[torch.arange(n_images, device=images.device), :, top, left]
    return shifted.contiguous(memory_format=_memory_format(images))


def _erase_rectangle_(images: Tensor) -> Tensor:
    """Set a rectangle of each image to zero, in place."""
    n_images, _, height, width = images.shape

    def interval(side: int) -> Tensor:  # mask of shape (n_images, side)
        length = _uniform(n_images, images.device) * side * MAX_ERASED
        center = _uniform(n_images, images.device) * side
        position = torch.arange(side, device=images.device) + 0.5
        return (position - center[:, None]).abs() * 2 < length[:, None]

    erased = interval(height)[:, None, :, None] & interval(width)[:, None, None, :]
    return images.masked_fill_(erased, 0)


def _memory_format(images: Tensor) -> torch.memory_format:
    is_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format
