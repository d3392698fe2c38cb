"""Changes to images that leave their class as it is, drawn anew for each image of a batch."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Augmentation = Callable[[Tensor], Tensor]

# Images are shifted by no more than this part of their sides, and a rectangle that is erased
# has sides of no more than that part of theirs.
LARGEST_SHIFT, LARGEST_HOLE = 1 / 8, 1 / 2


def flip(images: Tensor) -> Tensor:
    """Mirror every second image, left to right, by chance.

    For things that may face either way; a mirrored digit or letter is another one, or none.
    Of the built-in augmentations it makes learning the least slower.

    Parameters
    ----------
    images : Tensor of shape (B, C, H, W)
        Of any dtype, on any device. Not written to.

    Returns
    -------
    Tensor of shape (B, C, H, W)
        New, of the same dtype and device and in the same memory format.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.augmentation import flip
    >>> _ = torch.manual_seed(0)
    >>> flip(torch.tensor([[1, 2, 3]] * 4)[:, None, None]).flatten(1).tolist()
    [[3, 2, 1], [1, 2, 3], [3, 2, 1], [3, 2, 1]]
    """
    _validate(images)
    is_mirrored = _uniform(len(images), images.device) < 0.5
    return torch.where(is_mirrored[:, None, None, None], images.flip(3), images)


def crop_erase(images: Tensor) -> Tensor:
    """Shift each image a little, and erase a rectangle of it.

    Where the shift leaves nothing and where the rectangle is, the result is zero. Rows and
    columns are shifted by up to an eighth of the image's side, at least 1, which is what
    cropping an image at random from a padded one does [1]_. The sides of the rectangle are
    anything up to half of the image's; it may reach over the edge [2]_.

    Parameters
    ----------
    images : Tensor of shape (B, C, H, W)
        Of any dtype, on any device. Not written to.

    Returns
    -------
    Tensor of shape (B, C, H, W)
        New, of the same dtype and device and in the same memory format.

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
    _validate(images)
    return _erased(_cropped(images))


def crop_flip_erase(images: Tensor) -> Tensor:
    """Do as `flip` and `crop_erase` do.

    Parameters
    ----------
    images : Tensor of shape (B, C, H, W)

    Returns
    -------
    Tensor of shape (B, C, H, W)

    Examples
    --------
    >>> import torch
    >>> from sktriplet.augmentation import crop_flip_erase
    >>> crop_flip_erase(torch.rand(100, 3, 32, 32)).shape
    torch.Size([100, 3, 32, 32])
    """
    return _erased(_cropped(flip(images)))


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": flip,
    "crop_erase": crop_erase,
    "crop_flip_erase": crop_flip_erase,
}


def _validate(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(
            "images must be a tensor of shape (n_images, n_channels, height, width). Got one of "
            f"shape {tuple(images.shape)}."
        )


def _uniform(size: int, device: torch.device) -> Tensor:
    """Draw from the CPU's generator, so that a seed means the same on every device."""
    return torch.rand(size).to(device)


def _cropped(images: Tensor) -> Tensor:
    """Shift each image by a draw of its own, filling up with zeros."""
    n_images, _, height, width = images.shape
    reach = [max(1, round(side * LARGEST_SHIFT)) for side in (height, width)]
    padded = F.pad(images, (reach[1], reach[1], reach[0], reach[0]))
    # Every image that can be cut out of a padded one, as a view: only one of each is copied.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    top, left = ((_uniform(n_images, images.device) * (2 * most + 1)).long() for most in reach)
    cropped = windows[torch.arange(n_images, device=images.device), :, top, left]
    return cropped.contiguous(memory_format=_memory_format(images))


def _erased(images: Tensor) -> Tensor:
    """Set a rectangle in each image to zero, in place."""
    n_images, _, height, width = images.shape

    def chosen(side: int) -> Tensor:
        """Tell which rows, or columns, of each image lie in its rectangle."""
        length = _uniform(n_images, images.device) * side * LARGEST_HOLE
        centre = _uniform(n_images, images.device) * side
        place = torch.arange(side, device=images.device) + 0.5
        return (place - centre[:, None]).abs() * 2 < length[:, None]

    hole = chosen(height)[:, None, :, None] & chosen(width)[:, None, None, :]
    return images.masked_fill_(hole, 0)


def _memory_format(images: Tensor) -> torch.memory_format:
    is_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format
