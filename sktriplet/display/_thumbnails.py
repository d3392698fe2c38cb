"""Small copies of images as text, for pages that show them."""

import base64
import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing, gen_batches

from sktriplet.display._neighbors import CHANNELS, to_images
from sktriplet.exceptions import ThumbnailWarning

# Longest sides of a thumbnail in pixels, of which the largest is used that respects MAX_BYTES.
SIDES = (64, 48, 32, 16)
# Limit on the text of all thumbnails together.
MAX_BYTES = 25_000_000
# PNG has no artifacts and is small for small images; JPEG is several times smaller for large ones.
MAX_PNG_SIDE = 32
# Number of images from which the range of values and the size of thumbnails are estimated.
N_EXAMPLES = 256
# Number of images to read at once.
CHUNK_SIZE = 256


def encode_thumbnails(images: Any, max_bytes: int = MAX_BYTES) -> tuple[list[str], NDArray]:
    """Return distinct thumbnails as data URIs, and the position of the one of each image.

    Parameters
    ----------
    images : array-like of shape (n_samples, height, width[, channels])
        Images, also channels-first or flattened from squares. Bytes are shown as they are; colors
        of other types from 0 to 1, and gray values from their minimum to their maximum.
    max_bytes : int, default=25_000_000
        Limit on the size of all thumbnails together.

    Returns
    -------
    thumbnails : list of str
        Distinct thumbnails, which have equal images in common.
    positions : ndarray of shape (n_samples,)
        Position of each image's thumbnail in the list. -1 if it has none, because of the limit.

    Raises
    ------
    ValueError
        If images have two channels, or more than four.

    Warns
    -----
    ThumbnailWarning
        If thumbnails are smaller than 64 pixels, or some images have none, because of the limit.
    """
    n_images = len(images)
    step = -(-n_images // N_EXAMPLES)
    examples = to_images(_safe_indexing(images, np.arange(0, n_images, step)))
    if examples.ndim not in (3, 4) or (examples.ndim == 4 and examples.shape[3] not in CHANNELS):
        raise ValueError(
            f"images must be gray or have {CHANNELS} channels. Got an array of shape "
            f"{np.shape(images)}."
        )
    limits = _value_range(examples)
    largest = min(SIDES[0], max(examples.shape[1:3]))
    for side in SIDES:
        sizes = [len(_encode(image, limits, side)) for image in examples]
        if np.mean(sizes) * n_images <= max_bytes:
            break
    n_kept = n_images
    if np.mean(sizes) * n_images > max_bytes:
        n_kept = max(1, int(max_bytes / np.mean(sizes)))
    kept = np.linspace(0, n_images, n_kept, endpoint=False).astype(np.intp)
    numbers: dict[str, int] = {}
    positions, n_bytes = np.full(n_images, -1, np.int32), 0
    for part in gen_batches(n_kept, CHUNK_SIZE):
        for row, image in zip(
            kept[part], to_images(_safe_indexing(images, kept[part])), strict=True
        ):
            text = _encode(image, limits, side)
            if text not in numbers:
                if n_bytes + len(text) > max_bytes:
                    continue
                n_bytes += len(text)
            positions[row] = numbers.setdefault(text, len(numbers))
    n_missing = int((positions < 0).sum())
    if n_missing or side < largest:
        warnings.warn(
            f"Thumbnails have up to {min(side, largest)} pixels per side instead of {largest}, and "
            f"{n_missing} of {n_images} images have none, so that all together take at most "
            f"{max_bytes / 1e6:g} MB. Pass fewer samples to see more of each.",
            ThumbnailWarning,
            stacklevel=4,
        )
    return list(numbers), positions


def _value_range(images: NDArray) -> tuple[float, float]:
    """Return the values of black and white."""
    if images.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(images.min()), float(images.max())
    is_color = images.ndim == 4 and images.shape[3] > 1
    is_fraction = is_color and images.dtype.kind == "f" and low >= 0 and high <= 1
    return (0.0, 1.0) if is_fraction else (low, high)


def _encode(image: NDArray, limits: tuple[float, float], side: int) -> str:
    """Return an image as a data URI, with sides of at most some number of pixels."""
    from PIL import Image

    low, high = limits
    if image.dtype != np.uint8:
        scaled = (image.astype(np.float64) - low) * (255 / (high - low or 1.0))
        image = scaled.clip(0, 255).round().astype(np.uint8)
    picture = Image.fromarray(image.squeeze(-1) if image.shape[2:] == (1,) else image)
    picture.thumbnail((side, side))
    is_png = max(picture.size) <= MAX_PNG_SIDE or picture.mode == "RGBA"
    buffer = io.BytesIO()
    picture.save(buffer, "PNG" if is_png else "JPEG", quality=80, optimize=is_png)
    mime = "image/png" if is_png else "image/jpeg"
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"
