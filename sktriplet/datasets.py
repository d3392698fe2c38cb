"""A folder of images for each class, read into one array."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from tqdm import tqdm

from sktriplet.exceptions import UnreadableImageWarning

# What Pillow calls images of so many channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def load_image_folder(
    path: str | os.PathLike[str],
    shape: tuple[int, ...] = (64, 64, 3),
    memmap: str | os.PathLike[str] | None = None,
    *,
    return_paths: bool = False,
    n_jobs: int | None = None,
    verbose: bool = True,
) -> tuple[NDArray, ...]:
    r"""Read images that lie in a folder for each class.

    ::

        flowers/rose/1.jpg
        flowers/rose/garden/2.png
        flowers/tulip/1.jpg

    Every file in a class's folder and in the folders below it is taken, in the order of
    their names; files and folders whose name begins with a dot are not. Images are scaled
    until they cover ``shape``, and what is too much is cut off evenly on both sides.

    Needs Pillow: ``pip install sktriplet[image]``.

    Parameters
    ----------
    path : path-like
        The folder that holds the classes' folders.

    shape : tuple of int, default=(64, 64, 3)
        Of each image in the result: ``(height, width)`` for greyscale,
        ``(height, width, 3)`` for colours or ``(height, width, 4)`` for colours and
        opacity. Images of another kind are converted.

    memmap : path-like, default=None
        Where to write the images, as a ``.npy`` file, if they do not fit into memory. A
        file of that name is replaced when all are read. Later,
        ``numpy.load(memmap, mmap_mode="r")`` opens it; the labels are not in it.

    return_paths : bool, default=False
        Whether to return as well which file each image is from.

    n_jobs : int, default=None
        Threads that read, or processes inside of :func:`joblib.parallel_config`.

    verbose : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    images : ndarray of shape (n_images, \*shape), uint8
        A read-only :class:`numpy.memmap` if ``memmap`` is given.

    labels : ndarray of shape (n_images,)
        Names of the classes' folders.

    paths : ndarray of shape (n_images,)
        Only if ``return_paths=True``.

    Warns
    -----
    UnreadableImageWarning
        If some files could not be read. They are left out.

    Raises
    ------
    ImportError
        Without Pillow.
    NotADirectoryError
        If ``path`` is not a folder.
    ValueError
        If ``shape`` is not that of an image, there are no files in class folders, or
        none of them can be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from sktriplet.datasets import load_image_folder
    >>> with TemporaryDirectory() as folder:
    ...     for colour in ("green", "red"):
    ...         (Path(folder) / colour).mkdir()
    ...         Image.new("RGB", (90, 60), colour).save(f"{folder}/{colour}/1.png")
    ...     images, labels = load_image_folder(folder, (32, 32, 3), verbose=False)
    >>> images.shape, images.dtype, labels.tolist()
    ((2, 32, 32, 3), dtype('uint8'), ['green', 'red'])
    >>> images[1, 0, 0].tolist()
    [255, 0, 0]
    """
    _require_pillow()
    shape = _validate_shape(shape)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a path. Got {path!r}.")
    files, labels = _list_files(Path(path))
    if memmap is not None and Path(memmap).is_dir():
        raise IsADirectoryError(f"memmap must be a file. Got {str(memmap)!r}, which is a folder.")
    target = _Target(len(files), shape, memmap)
    unread: dict[str, str] = {}
    kept = []
    try:
        results = Parallel(n_jobs, prefer="threads", return_as="generator")(
            delayed(_read)(file, shape) for file in files
        )
        shown = tqdm(results, total=len(files), unit="image", disable=not verbose)
        for number, result in enumerate(shown):
            if isinstance(result, str):
                unread[str(files[number])] = result
            else:
                target.append(result)
                kept.append(number)
        if not kept:
            raise ValueError(f"None of the files in {path} could be read.{_listed(unread)}")
        images = target.finish()
    except BaseException:
        target.discard()
        raise
    if unread:
        warnings.warn(
            UnreadableImageWarning(
                f"{len(unread)} of {len(files)} files could not be read and are left out."
                f"{_listed(unread)}",
                unread,
            ),
            stacklevel=2,
        )
    if not return_paths:
        return images, labels[kept]
    return images, labels[kept], np.array([str(files[number]) for number in kept])


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "load_image_folder needs Pillow. Install it with: pip install 'sktriplet[image]'"
        ) from error


def _validate_shape(shape: Any) -> tuple[int, ...]:
    """Check that it is (height, width), or that with a number of channels."""
    sides = tuple(shape) if isinstance(shape, tuple | list) else ()
    fits = all(isinstance(side, int | np.integer) and side > 0 for side in sides)
    if not fits or len(sides) not in (2, 3) or (len(sides) == 3 and sides[2] not in MODES):
        raise ValueError(
            "shape must be (height, width) for greyscale, (height, width, 3) for colours or "
            f"(height, width, 4) for colours and opacity. Got {shape!r}."
        )
    return sides


def _list_files(path: Path) -> tuple[list[Path], NDArray[np.str_]]:
    """Return all files in class folders, sorted, and the class of each."""
    if not path.is_dir():
        raise NotADirectoryError(
            "path must be a folder that holds a folder of images for each class. Got "
            f"{str(path)!r}, which {'is a file' if path.exists() else 'does not exist'}."
        )
    files: list[Path] = []
    labels: list[str] = []
    for folder in sorted(path.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        found = sorted(
            file
            for file in folder.rglob("*")
            if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
        )
        files += found
        labels += [folder.name] * len(found)
    if not files:
        raise ValueError(
            f"path must hold a folder of images for each class. Got {str(path)!r}, in which "
            "there is no folder with a file."
        )
    return files, np.array(labels)


def _read(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | str:
    """Return an image of that shape, or the reason why there is none."""
    from PIL import Image, ImageOps

    height, width, *channels = shape
    mode = MODES[channels[0] if channels else 1]
    try:
        with Image.open(file) as opened:
            # JPEG can be decoded at an eighth of its size, in a fraction of the time.
            opened.draft(mode, (2 * max(height, width),) * 2)
            image = ImageOps.exif_transpose(opened)
            if image.mode == "F" or image.mode.startswith("I"):
                image = Image.fromarray(_in_eight_bits(np.asarray(image)))
            elif image.has_transparency_data or image.mode == "P":
                image = image.convert("RGBA")
            image = ImageOps.fit(image.convert(mode), (width, height))
    except Exception as error:  # there is no end to what a broken file can raise
        return f"{type(error).__name__}: {error}"
    return np.asarray(image).reshape(shape)


def _in_eight_bits(levels: NDArray) -> NDArray[np.uint8]:
    """Return the upper 8 of 16 bits, of which Pillow would take the lower ones."""
    if levels.dtype.kind == "f" or levels.min() < 0 or levels.max() > 65535:
        raise ValueError(
            f"grey levels of type {levels.dtype} from {levels.min():g} to {levels.max():g}, which "
            "are not those of 16 bits"
        )
    return (levels // 256).astype(np.uint8)


def _listed(unread: dict[str, str], most: int = 20) -> str:
    """Return a line for each file and its reason, but not too many."""
    lines = [f"\n  {file}: {reason}" for file, reason in unread.items()]
    if len(lines) > most:
        lines[most:] = [f"\n  and {len(lines) - most} more"]
    return "".join(lines)


class _Target:
    """An array that is filled from its start, in memory or in a file.

    Parameters
    ----------
    n_most : int
        Rows there is room for.

    shape : tuple of int
        Of a row.

    file : path-like, default=None
    """

    def __init__(
        self, n_most: int, shape: tuple[int, ...], file: str | os.PathLike[str] | None = None
    ):
        self.file = None if file is None else Path(file)
        self.n_rows = 0
        full_shape = (n_most, *shape)
        if self.file is None:
            self.rows: Any = np.empty(full_shape, np.uint8)
        else:
            # Whatever happens, there is never half a file under the name that was asked for.
            self.part = self.file.with_name(self.file.name + ".part")
            self.rows = np.lib.format.open_memmap(self.part, "w+", np.uint8, full_shape)

    def append(self, row: NDArray[np.uint8]) -> None:
        """Put a row behind the others."""
        self.rows[self.n_rows] = row
        self.n_rows += 1

    def discard(self) -> None:
        """Leave no file behind."""
        if self.file is not None:
            self.rows = None
            self.part.unlink(missing_ok=True)

    def finish(self) -> NDArray[np.uint8]:
        """Return the rows that were put in."""
        if self.file is None:
            return self.rows[: self.n_rows]
        start, (n_most, *shape) = self.rows.offset, self.rows.shape
        self.rows = None  # and so write what is not yet written
        if self.n_rows < n_most:
            header = {"descr": "|u1", "fortran_order": False, "shape": (self.n_rows, *shape)}
            with open(self.part, "r+b") as file:
                # As long as the one before: NumPy leaves room for the first axis to change.
                np.lib.format.write_array_header_1_0(file, header)
                assert file.tell() == start
                file.truncate(start + self.n_rows * int(np.prod(shape)))
        os.replace(self.part, self.file)
        return np.load(self.file, mmap_mode="r")
