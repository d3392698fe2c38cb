"""Loading images from files and class folders, at once or batch by batch."""

import os
import warnings
from contextlib import closing
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.utils._param_validation import validate_params
from tqdm import tqdm

from sktriplet._lazy_samples import LazySamples
from sktriplet.exceptions import UnreadableImageWarning

__all__ = ["LazySamples", "load_image", "load_image_folder"]

# 16-bit images that stay below this level use an eighth of their range or less.
MIN_16_BIT_LEVEL = 2**13
# Pillow's name for images of each number of channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@validate_params(
    {
        "path": [str, os.PathLike],
        "memmap": [str, os.PathLike, None],
        "lazy": ["boolean"],
        "return_paths": ["boolean"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def load_image_folder(
    path: str | os.PathLike[str],
    shape: tuple[int, ...] = (64, 64, 3),
    memmap: str | os.PathLike[str] | None = None,
    *,
    lazy: bool = False,
    return_paths: bool = False,
    n_jobs: int | None = None,
    verbose: bool = True,
) -> tuple[Any, ...]:
    r"""Load images that are stored in one folder per class.

    ::

        flowers/rose/1.jpg
        flowers/rose/garden/2.png
        flowers/tulip/1.jpg

    All files in a class folder and its subfolders are loaded, in sorted order, except hidden
    files and folders, whose names begin with a dot. Images are resized to cover ``shape``, and
    the excess is cropped symmetrically. Only the upper 8 bits of 16-bit gray levels are kept.
    Transparent images are composited over white unless ``shape`` has an opacity channel.

    Requires Pillow: ``pip install sktriplet[image]``.

    Parameters
    ----------
    path : path-like
        Folder that contains the class folders.
    shape : tuple of int, default=(64, 64, 3)
        Shape to which each image is converted: ``(height, width)`` or ``(height, width, 1)``
        for grayscale, ``(height, width, 3)`` for RGB or ``(height, width, 4)`` for RGBA.
    memmap : path-like, default=None
        The ``.npy`` file to write the images to, for datasets that do not fit into memory. An
        existing file is replaced once all images are loaded. Open it again with
        ``numpy.load(memmap, mmap_mode="r")``; the labels are not stored in it. If some files
        cannot be read, the images are copied once, which temporarily takes twice the space.
    lazy : bool, default=False
        If True, images are read from the files whenever they are needed, for datasets that fit
        neither into memory nor, once more, onto the disk. The files must not change.
    return_paths : bool, default=False
        If True, also return the path of each image.
    n_jobs : int, default=None
        Number of threads that read files, also later if ``lazy=True``, or of processes if
        :func:`joblib.parallel_config` selects a process-based backend. None means 1 unless in such
        a context.
    verbose : bool, default=True
        If True, show a progress bar.

    Returns
    -------
    images : ndarray of shape (n_images, \*shape), dtype=uint8
        Loaded images: a read-only :class:`numpy.memmap` if ``memmap`` is given, or
        `LazySamples` if ``lazy=True``.
    labels : ndarray of shape (n_images,)
        Names of the class folders.
    paths : ndarray of shape (n_images,)
        Paths of the image files. Only returned if ``return_paths=True``.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    InvalidParameterError
        If a parameter has an invalid type.
    IsADirectoryError
        If ``memmap`` is a folder.
    NotADirectoryError
        If ``path`` is not a folder.
    ValueError
        If ``shape`` is not an image shape, no class folder contains files, or no file can
        be read. If ``memmap`` is given and ``lazy=True``.

    Warns
    -----
    UnreadableImageWarning
        If some files cannot be read. They are skipped. With ``lazy=True``, only the beginning of
        a file is checked; an error is raised if the rest of it cannot be read later.
    UserWarning
        If all 16-bit images use the lower bits only, as 12-bit data do, which leaves few gray
        levels.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from sktriplet.datasets import load_image_folder
    >>> with TemporaryDirectory() as folder:
    ...     for color in ("green", "red"):
    ...         (Path(folder) / color).mkdir()
    ...         Image.new("RGB", (90, 60), color).save(f"{folder}/{color}/1.png")
    ...     images, labels = load_image_folder(folder, (32, 32, 3), verbose=False)
    >>> images.shape, images.dtype, labels.tolist()
    ((2, 32, 32, 3), dtype('uint8'), ['green', 'red'])
    >>> images[1, 0, 0].tolist()
    [255, 0, 0]
    """
    _check_pillow()
    shape = _check_shape(shape)
    files, labels = _list_files(Path(path))
    if lazy and memmap is not None:
        raise ValueError(f"lazy=True writes no file. Got memmap={memmap!r}: pass one of both.")
    if memmap is not None and Path(memmap).is_dir():
        raise IsADirectoryError(f"memmap must be a file. Got the folder {str(memmap)!r}.")
    loaded: list[int] = []
    failed: dict[str, str] = {}
    largest_level = 0
    read = _check_image if lazy else _read_image
    with closing(_ArrayWriter(0 if lazy else len(files), shape, memmap)) as writer:
        results = Parallel(n_jobs, prefer="threads", return_as="generator")(
            delayed(read)(file, shape) for file in files
        )
        progress = tqdm(results, total=len(files), unit="image", disable=not verbose)
        for i, result in enumerate(progress):
            if isinstance(result, str):
                failed[files[i]] = result
            else:
                image, level = result
                largest_level = max(largest_level, level)
                if image is not None:
                    writer.append(image)
                loaded.append(i)
        reasons = _format_failures(failed)
        if not loaded:
            raise ValueError(f"None of the files in {path} could be read.{reasons}")
        images: Any = writer.finish()
    if lazy:
        images = LazySamples(_ImageFiles([files[i] for i in loaded], shape), n_jobs)
    if failed:
        message = f"{len(failed)} of {len(files)} files could not be read and are skipped.{reasons}"
        # The caller is one level farther up because of the decorator.
        warnings.warn(UnreadableImageWarning(message, failed), stacklevel=3)
    if 0 < largest_level < MIN_16_BIT_LEVEL:
        warnings.warn(
            f"The gray levels of the 16-bit images in {path} do not exceed {largest_level}. Only "
            f"{largest_level // 256 + 1} levels remain in the 8 bits that are kept. Rescale the "
            "files, or read them with Pillow and pass an array of floats.",
            stacklevel=3,
        )
    if not return_paths:
        return images, labels[loaded]
    return images, labels[loaded], np.array([files[i] for i in loaded])


def load_image(
    file: str | os.PathLike[str], shape: tuple[int, ...] = (64, 64, 3)
) -> NDArray[np.uint8]:
    r"""Load a single image as `load_image_folder` does.

    The image is rotated as its EXIF orientation says, which cameras write, and resized to cover
    ``shape``; the excess is cropped symmetrically.

    Requires Pillow: ``pip install sktriplet[image]``.

    Parameters
    ----------
    file : path-like
        Image file.
    shape : tuple of int, default=(64, 64, 3)
        Shape to which the image is converted, as in `load_image_folder`: that of the training
        images.

    Returns
    -------
    image : ndarray of shape ``shape``, dtype=uint8
        Loaded image. Pass ``image[np.newaxis]`` to an embedder.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If Pillow is not installed.
    ValueError
        If ``shape`` is not an image shape, or the file cannot be read.

    See Also
    --------
    load_image_folder : Load all images of a folder.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from sktriplet.datasets import load_image
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (90, 60), "red").save(f"{folder}/red.png")
    ...     image = load_image(f"{folder}/red.png", (32, 32, 3))
    >>> image.shape, image.dtype, image[0, 0].tolist()
    ((32, 32, 3), dtype('uint8'), [255, 0, 0])
    """
    _check_pillow()
    shape = _check_shape(shape)
    if not Path(file).exists():
        raise FileNotFoundError(f"file must be an image. Got {str(file)!r}, which does not exist.")
    result = _read_image(os.fspath(file), shape)
    if isinstance(result, str):
        raise ValueError(f"file must be an image. Got {str(file)!r}, which raised {result}")
    return result[0]


def _check_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Loading images requires Pillow. Install it with: pip install 'sktriplet[image]'"
        ) from error


def _check_shape(shape: Any) -> tuple[int, ...]:
    sides = tuple(shape) if isinstance(shape, tuple | list) else ()
    is_positive = all(isinstance(side, int | np.integer) and side > 0 for side in sides)
    if not is_positive or len(sides) not in (2, 3) or (len(sides) == 3 and sides[2] not in MODES):
        raise ValueError(
            "shape must be (height, width) for grayscale, (height, width, 3) for RGB or "
            f"(height, width, 4) for RGBA. Got {shape!r}."
        )
    return sides


def _list_files(path: Path) -> tuple[list[str], NDArray[np.str_]]:
    """Return the files in all class folders, sorted, and their classes.

    A Path takes ten times the memory of a string.
    """
    if not path.is_dir():
        raise NotADirectoryError(
            "path must be a folder that contains one folder of images per class. Got "
            f"{str(path)!r}, which {'is a file' if path.exists() else 'does not exist'}."
        )
    files: list[str] = []
    labels: list[str] = []
    for folder in sorted(path.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        found = sorted(
            file
            for file in folder.rglob("*")
            if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
        )
        files += map(str, found)
        labels += [folder.name] * len(found)
    if not files:
        raise ValueError(
            "path must contain one folder of images per class. "
            f"Got {str(path)!r}, which has no folder with a file."
        )
    return files, np.array(labels)


def _read_image(file: str, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], int] | str:
    """Return the image and its largest 16-bit level, or the reason why it cannot be read."""
    from PIL import Image, ImageOps

    height, width, *channels = shape
    mode, largest_level = MODES[channels[0] if channels else 1], 0
    try:
        with Image.open(file) as opened:
            # A JPEG decoder can downscale by up to 8, which takes a fraction of the time.
            opened.draft(mode, (2 * max(height, width),) * 2)
            is_16_bit = any(";16" in str(tile) for tile in opened.tile)
            image = ImageOps.exif_transpose(opened)
            if image.mode == "F" or image.mode.startswith("I"):
                levels = np.asarray(image)
                image, largest_level = Image.fromarray(_to_uint8(levels)), int(levels.max())
            elif is_16_bit:  # Pillow has kept the upper 8 bits.
                largest_level = 256 * int(np.asarray(image).max())
            if image.has_transparency_data or image.mode == "P":
                image = image.convert("RGBA")
                if mode != "RGBA":  # Colors under transparent pixels are arbitrary.
                    white = Image.new("RGBA", image.size, "white")
                    image = Image.alpha_composite(white, image)
            image = ImageOps.fit(image.convert(mode), (width, height))
    except Exception as error:  # broken files raise arbitrary exceptions
        return f"{type(error).__name__}: {error}"
    return np.asarray(image).reshape(shape), largest_level


def _check_image(file: str, shape: tuple[int, ...]) -> tuple[None, int] | str:
    """Return the largest 16-bit level of an image, or the reason why it cannot be identified."""
    from PIL import Image

    try:
        with Image.open(file) as opened:
            mode, tile = opened.mode, str(opened.tile)
    except Exception as error:  # broken files raise arbitrary exceptions
        return f"{type(error).__name__}: {error}"
    if mode != "F" and not mode.startswith("I") and ";16" not in tile:
        return None, 0
    result = _read_image(file, shape)  # The header does not tell the levels.
    return result if isinstance(result, str) else (None, result[1])


class _ImageFiles:
    """Sequence of images that are read from their files."""

    def __init__(self, files: list[str], shape: tuple[int, ...]):
        self.files = [os.path.abspath(file) for file in files]
        self.shape = shape

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        result = _read_image(self.files[index], self.shape)
        if isinstance(result, str):
            raise ValueError(f"The image {self.files[index]} cannot be read: {result}")
        return result[0]


def _to_uint8(gray: NDArray) -> NDArray[np.uint8]:
    """Keep the upper 8 of 16 bits; Pillow would keep the lower ones."""
    if gray.dtype.kind == "f" or gray.min() < 0 or gray.max() > 65535:
        raise ValueError(
            f"gray levels must be 16-bit integers. Got {gray.dtype} values from {gray.min():g} "
            f"to {gray.max():g}."
        )
    return (gray // 256).astype(np.uint8)


def _format_failures(failed: dict[str, str], n_max: int = 20) -> str:
    """Return one line per file with its reason, up to a maximum."""
    lines = [f"\n  {file}: {reason}" for file, reason in failed.items()]
    if len(lines) > n_max:
        lines[n_max:] = [f"\n  and {len(lines) - n_max} more"]
    return "".join(lines)


class _ArrayWriter:
    """Write up to ``n_max`` images to an array, in memory or in a ``.npy`` file.

    An existing file is only replaced by a complete one.
    """

    def __init__(self, n_max: int, shape: tuple[int, ...], file: str | os.PathLike[str] | None):
        self.n_written = 0
        self.file = file
        self.part, self.kept = Path(f"{file}.part"), Path(f"{file}.kept.part")
        if file is None:
            self.images: Any = np.empty((n_max, *shape), np.uint8)
        else:
            self.images = np.lib.format.open_memmap(self.part, "w+", np.uint8, (n_max, *shape))

    def append(self, image: NDArray[np.uint8]) -> None:
        self.images[self.n_written] = image
        self.n_written += 1

    def finish(self) -> NDArray[np.uint8]:
        """Return the images that were written."""
        if self.file is None:
            return self.images[: self.n_written]
        complete = self.part
        if self.n_written < len(self.images):
            complete = self.kept
            with complete.open("wb") as file:
                np.save(file, self.images[: self.n_written])
        self.images = None  # unmap the file, since Windows cannot rename a mapped one
        complete.replace(self.file)
        return np.load(self.file, mmap_mode="r")

    def close(self) -> None:
        """Delete temporary files."""
        self.images = None
        if self.file is not None:
            self.part.unlink(missing_ok=True)
            self.kept.unlink(missing_ok=True)
