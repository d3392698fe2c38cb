import builtins
import os
import pickle
import warnings

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sktriplet import TripletEmbedder
from sktriplet.datasets import LazySamples, load_image, load_image_folder
from sktriplet.exceptions import InvalidParameterError, UnreadableImageWarning

Image = pytest.importorskip("PIL.Image")

COLORS = {"green": (0, 200, 0), "red": (250, 0, 0)}


def save(path, pixels, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **settings)


def plain(color, height=12, width=12):
    return np.broadcast_to(np.array(color, np.uint8), (height, width, np.size(color)))


@pytest.fixture
def folder(tmp_path):
    """Three images of each of two classes, in two formats, one of them in a subfolder."""
    path = tmp_path / "images"
    for name, color in COLORS.items():
        save(path / name / "b.png", plain(color))
        save(path / name / "a.jpg", plain(color), quality=95)
        save(path / name / "more" / "c.PNG", plain(color))
    return path


def load(path, shape=(8, 8, 3), *args, **settings):
    return load_image_folder(path, shape, *args, **{"verbose": False, **settings})


def test_images_and_labels(folder):
    images, labels, paths = load(folder, return_paths=True)
    assert images.shape == (6, 8, 8, 3)
    assert images.dtype == np.uint8
    assert labels.tolist() == ["green"] * 3 + ["red"] * 3
    assert [os.path.relpath(path, folder) for path in paths] == [
        os.path.join(name, file)
        for name in ("green", "red")
        for file in ("a.jpg", "b.png", os.path.join("more", "c.PNG"))
    ]
    for image, label in zip(images, labels, strict=True):
        assert np.abs(image - np.array(COLORS[label], float)).max() < 4


def test_exact_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 3))
    save(tmp_path / "one" / "1.png", pixels)
    (image,), _ = load(tmp_path, (5, 9, 3))
    assert_array_equal(image, pixels)


class TestShape:
    @pytest.mark.parametrize("shape", [(4, 6), (6, 4, 1), [5, 5, 3], (5, 5, 4)], ids=str)
    def test_valid(self, folder, shape):
        images, _ = load(folder, shape)
        assert images.shape == (6, *shape)

    @pytest.mark.parametrize(
        "shape",
        [(8,), (8, 8, 2), (0, 8), (8.0, 8), "88", 8, (3, 8, 8), (8, 8, 3, 1), None],
        ids=str,
    )
    def test_invalid(self, folder, shape):
        with pytest.raises(ValueError, match=r"^shape must .* Got "):
            load(folder, shape)

    def test_color_conversion(self, tmp_path):
        save(tmp_path / "one" / "1.png", plain((255, 0, 0)))
        save(tmp_path / "one" / "2.png", plain((90,))[..., 0])
        gray, _ = load(tmp_path, (8, 8))
        assert gray[:, 0, 0].tolist() == [76, 90]
        color, _ = load(tmp_path, (8, 8, 3))
        assert color[:, 0, 0].tolist() == [[255, 0, 0], [90, 90, 90]]

    def test_symmetric_crop(self, tmp_path):
        pixels = np.zeros((10, 30, 3))
        pixels[:, 10:20] = 255
        save(tmp_path / "one" / "1.png", pixels)
        save(tmp_path / "one" / "2.png", pixels.transpose(1, 0, 2))
        images, _ = load(tmp_path, (10, 10, 3))
        assert (images == 255).all()

    def test_large_jpeg(self, tmp_path):
        """JPEG files are decoded at a smaller size, but not too small."""
        ramp = np.broadcast_to(np.linspace(0, 255, 1200)[None, :, None], (800, 1200, 3))
        save(tmp_path / "one" / "1.jpg", ramp, quality=95)
        save(tmp_path / "one" / "2.png", ramp)
        (photograph, exact), _ = load(tmp_path, (32, 48, 3))
        assert np.abs(photograph.astype(int) - exact).max() < 5


class TestFileTypes:
    def test_exif_orientation(self, tmp_path):
        pixels = np.zeros((8, 8, 3))
        pixels[:4] = 255
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        save(tmp_path / "one" / "1.png", pixels, exif=exif)
        (image,), _ = load(tmp_path)
        assert_array_equal(image, pixels[::-1])

    def test_16_bits(self, tmp_path):
        (tmp_path / "one").mkdir()
        Image.fromarray(np.full((8, 8), 50 * 256, np.uint16)).save(tmp_path / "one" / "1.png")
        (image,), _ = load(tmp_path, (8, 8))
        assert (image == 50).all()

    @pytest.mark.parametrize(
        ("dtype", "level"), [(np.float32, 0.5), (np.int32, 70000), (np.int32, -1)]
    )
    def test_other_gray_levels(self, tmp_path, dtype, level):
        save(tmp_path / "a" / "1.png", np.full((9, 9), 50))
        Image.fromarray(np.full((9, 9), level, dtype)).save(tmp_path / "a" / "2.tiff")
        with pytest.warns(UnreadableImageWarning, match=f"gray levels .*{level}"):
            images, _ = load(tmp_path, (8, 8))
        assert len(images) == 1

    def test_12_bits_in_16(self, tmp_path):
        """Only 16 of 4,096 gray levels remain."""
        levels = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
        (tmp_path / "a").mkdir()
        Image.fromarray(levels).save(tmp_path / "a" / "1.png")
        with pytest.warns(UserWarning, match=r"16-bit .*4095.*16 levels"):
            load_image_folder(tmp_path, (8, 8), verbose=False)

    def test_transparent_pixels_are_white(self, tmp_path):
        """Whatever color they have."""
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[..., 0] = 200
        pixels[:4, :, 3] = 255
        save(tmp_path / "a" / "1.png", pixels)
        (image,), _ = load_image_folder(tmp_path, (8, 8, 3), verbose=False)
        assert (image[:4] == (200, 0, 0)).all()
        assert (image[4:] == 255).all()

    def test_transparent_palette(self, tmp_path):
        (tmp_path / "one").mkdir()
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.save(tmp_path / "one" / "1.png", transparency=b"\x00\xff")
        (image,), _ = load(tmp_path, (8, 8, 4))
        assert image[0, 0].tolist() == [10, 20, 30, 255]


class TestPath:
    def test_str(self, folder):
        assert_array_equal(load(str(folder))[0], load(folder)[0])

    def test_ignored_files(self, folder):
        """Hidden files and folders, empty folders, and files outside of class folders."""
        (folder / "nothing").mkdir()
        (folder / "red" / ".DS_Store").write_text("x")
        (folder / "red" / ".thumbnails").mkdir()
        (folder / "red" / ".thumbnails" / "a.png").write_text("x")
        (folder / ".git").mkdir()
        (folder / ".git" / "config").write_text("x")
        (folder / "labels.csv").write_text("x")
        images, labels = load(folder)
        assert len(images) == 6
        assert set(labels) == {"green", "red"}

    def test_not_a_folder(self, tmp_path):
        with pytest.raises(NotADirectoryError, match=r"^path must .* does not exist"):
            load(tmp_path / "nowhere")
        (tmp_path / "file").write_text("x")
        with pytest.raises(NotADirectoryError, match=r"^path must .* is a file"):
            load(tmp_path / "file")

    def test_no_files(self, tmp_path):
        save(tmp_path / "1.png", plain((0, 0, 0)))
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match=r"^path must .* no folder with a file"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", None),
        ("memmap", 5),
        ("lazy", None),
        ("return_paths", "yes"),
        ("n_jobs", 1.5),
        ("verbose", "no"),
    ],
)
def test_invalid_type(folder, name, value):
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter .* Got {value!r}"):
        load_image_folder(**{"path": folder, name: value})


class TestUnreadable:
    @pytest.fixture
    def broken(self, folder):
        """Files that are unreadable for various reasons, among readable ones."""
        (folder / "green" / "0.png").write_bytes(b"")
        (folder / "green" / "aa.png").write_text("no image at all")
        whole = (folder / "red" / "b.png").read_bytes()
        (folder / "red" / "bb.png").write_bytes(whole[: len(whole) - 30])
        save(folder / "red" / "big.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3)))
        whole = (folder / "red" / "big.jpg").read_bytes()
        (folder / "red" / "big.jpg").write_bytes(whole[: len(whole) // 2])
        (folder / "red" / "readme.txt").write_text("all red")
        return folder

    names = ("0.png", "aa.png", "bb.png", "big.jpg", "readme.txt")

    @pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "memmap"])
    def test_skipped(self, broken, tmp_path, in_memory):
        memmap = None if in_memory else tmp_path / "images.npy"
        with pytest.warns(UnreadableImageWarning, match="^5 of 11 files") as caught:
            images, labels, paths = load(broken, memmap=memmap, return_paths=True)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        warning = caught[0].message
        assert [os.path.basename(path) for path in warning.reasons] == list(self.names)
        for path, reason in warning.reasons.items():
            assert f"{path}: {reason}" in str(warning)
        assert len(images) == len(labels) == len(paths) == 6
        for name in COLORS:
            assert np.abs(images[labels == name] - np.array(COLORS[name], float)).max() < 4

    def test_long_message(self, folder):
        for number in range(50):
            (folder / "red" / f"{number:02}.png").write_text("x")
        with pytest.warns(UnreadableImageWarning) as caught:
            load(folder)
        assert str(caught[0].message).endswith("and 30 more")
        assert len(caught[0].message.reasons) == 50

    @pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "memmap"])
    def test_all_files(self, tmp_path, in_memory):
        (tmp_path / "images" / "red").mkdir(parents=True)
        (tmp_path / "images" / "red" / "1.png").write_text("x")
        memmap = None if in_memory else tmp_path / "images.npy"
        with pytest.raises(ValueError, match=r"^None of the files .*\n  .*1\.png: Unidentified"):
            load(tmp_path / "images", memmap=memmap)
        assert os.listdir(tmp_path) == ["images"]


class TestMemmap:
    def test_same_as_in_memory(self, folder, tmp_path):
        in_memory, labels = load(folder)
        images, same_labels = load(folder, memmap=tmp_path / "images.npy")
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
        assert_array_equal(images, in_memory)
        assert_array_equal(labels, same_labels)
        assert sorted(os.listdir(tmp_path)) == ["images", "images.npy"]

    def test_skipped_files(self, folder, tmp_path):
        """The file has no room for images that could not be read."""
        (folder / "green" / "broken.png").write_text("x")
        file = tmp_path / "images.npy"
        with pytest.warns(UnreadableImageWarning):
            images, _ = load(folder, (8, 9, 3), str(file))
        assert_array_equal(np.load(file, mmap_mode="r"), images)
        assert_array_equal(np.load(file), images)
        assert file.stat().st_size == images.offset + images.size
        assert sorted(os.listdir(tmp_path)) == ["images", "images.npy"]

    def test_interrupted(self, folder, tmp_path, monkeypatch):
        """An existing file is replaced once all images are loaded, and not before."""
        file = tmp_path / "images.npy"
        file.write_text("old")
        images = iter([Image.new("RGB", (8, 8))] * 3)

        def interrupt(*args):
            if image := next(images, None):
                return image
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("PIL.ImageOps.fit", interrupt)
            with pytest.raises(KeyboardInterrupt):
                load(folder, memmap=file)
        assert file.read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["images", "images.npy"]
        load(folder, memmap=file)
        assert len(np.load(file)) == 6

    def test_warning_as_error(self, folder, tmp_path):
        (folder / "red" / "broken.png").write_bytes(b"no image")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UnreadableImageWarning):
                load(folder, memmap=tmp_path / "images.npy")
        assert sorted(os.listdir(tmp_path)) == ["images", "images.npy"]

    def test_is_a_folder(self, folder, tmp_path):
        with pytest.raises(IsADirectoryError, match=r"^memmap must .*"):
            load(folder, memmap=tmp_path)
        assert not list(tmp_path.parent.glob("*.part"))

    def test_fit(self, folder, tmp_path):
        for number in range(6):
            for name, color in COLORS.items():
                save(folder / name / f"{number}.png", plain(color))
        images, labels = load(folder, memmap=tmp_path / "images.npy")
        embedder = TripletEmbedder(2, max_epochs=1, random_state=0).fit(images, labels)
        assert embedder.score(images, labels) == 1


class TestLazy:
    @pytest.fixture
    def photographs(self, folder):
        """With every kind of conversion that the eager loader does."""
        rng = np.random.default_rng(0)
        exif = Image.Exif()
        exif[0x0112] = 6
        save(folder / "red" / "rotated.jpg", rng.integers(0, 256, (90, 60, 3)), exif=exif)
        save(folder / "red" / "transparent.png", rng.integers(0, 256, (20, 30, 4)))
        gray = rng.integers(0, 65536, (9, 9)).astype(np.uint16)
        Image.fromarray(gray).save(folder / "green" / "16-bit.png")
        return folder

    @pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (8, 6, 3), (8, 6, 4)])
    @pytest.mark.parametrize("n_jobs", [None, 2])
    def test_same_as_in_memory(self, photographs, shape, n_jobs):
        images, labels, paths = load(photographs, shape, return_paths=True)
        lazy, *others = load(photographs, shape, lazy=True, return_paths=True, n_jobs=n_jobs)
        assert isinstance(lazy, LazySamples)
        assert lazy.shape == images.shape
        assert lazy.dtype == images.dtype
        assert lazy.n_jobs == n_jobs
        assert_array_equal(np.asarray(lazy), images)
        assert_array_equal(others, [labels, paths])

    def test_files_are_not_read(self, folder):
        """Until they are needed, except for the beginning, and for the first one."""
        images, _ = load(folder, lazy=True)
        save(folder / "red" / "b.png", plain((1, 2, 3)))
        assert images[4][0, 0].tolist() == [1, 2, 3]

    def test_unreadable(self, folder):
        (folder / "green" / "0.png").write_bytes(b"")
        (folder / "red" / "readme.txt").write_text("all red")
        Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(folder / "red" / "float.tiff")
        with pytest.warns(UnreadableImageWarning, match="^3 of 9 files") as caught:
            images, labels = load(folder, lazy=True)
        assert caught[0].filename == __file__
        with pytest.warns(UnreadableImageWarning) as eager:
            expected, _ = load(folder)
        assert caught[0].message.reasons == eager[0].message.reasons
        assert_array_equal(np.asarray(images), expected)
        assert len(labels) == 6

    def test_truncated(self, folder):
        file = folder / "red" / "c.png"
        save(file, np.random.default_rng(0).integers(0, 256, (30, 30, 3)))
        file.write_bytes(file.read_bytes()[:500])
        images, labels = load(folder, lazy=True)
        with pytest.raises(ValueError, match=rf"^The image {file} cannot be read: OSError"):
            np.asarray(images)
        with pytest.raises(ValueError, match=r"c\.png cannot be read"):
            TripletEmbedder(2, max_epochs=1).fit(images, labels)

    def test_deleted(self, folder):
        images, _ = load(folder, lazy=True)
        (folder / "green" / "b.png").unlink()
        with pytest.raises(ValueError, match=r"b\.png cannot be read: FileNotFoundError"):
            images[1]

    def test_no_readable_file(self, tmp_path):
        (tmp_path / "red").mkdir()
        (tmp_path / "red" / "1.png").write_text("x")
        with pytest.raises(ValueError, match=r"^None of the files "):
            load(tmp_path, lazy=True)

    def test_12_bits_in_16(self, tmp_path):
        (tmp_path / "a").mkdir()
        levels = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(levels).save(tmp_path / "a" / "1.png")
        with pytest.warns(UserWarning, match=r"16-bit .*4095"):
            load_image_folder(tmp_path, (8, 8), lazy=True, verbose=False)

    def test_memmap(self, folder, tmp_path):
        with pytest.raises(ValueError, match=r"^lazy=True writes no file.* memmap='images"):
            load(folder, lazy=True, memmap="images.npy")

    def test_relative_path(self, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        images, _ = load("images", lazy=True)
        monkeypatch.chdir(folder)
        assert_array_equal(np.asarray(images), load(folder)[0])

    def test_pickle(self, folder):
        images, _ = load(folder, lazy=True)
        restored = pickle.loads(pickle.dumps(images[2:]))
        assert_array_equal(np.asarray(restored), load(folder)[0][2:])


@pytest.mark.parametrize("n_jobs", [2, -1])
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_n_jobs(folder, n_jobs, backend):
    (folder / "green" / "broken.png").write_text("x")
    with pytest.warns(UnreadableImageWarning):
        expected = load(folder, return_paths=True)
    with joblib.parallel_config(backend), pytest.warns(UnreadableImageWarning):
        loaded = load(folder, return_paths=True, n_jobs=n_jobs)
    for array, expected_array in zip(loaded, expected, strict=True):
        assert_array_equal(array, expected_array)


def test_verbose(folder, capsys):
    load(folder, verbose=True)
    assert "6/6" in capsys.readouterr().err
    load(folder)
    assert capsys.readouterr().err == ""


def test_missing_pillow(folder, monkeypatch):
    real_import = builtins.__import__

    def import_without_pillow(name, *args, **kwargs):
        if name.partition(".")[0] == "PIL":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_without_pillow)
    with pytest.raises(ImportError, match=r"Pillow.*pip install 'sktriplet\[image\]'"):
        load(folder)


class TestLoadImage:
    @pytest.mark.parametrize("shape", [(8, 8, 3), (9, 7), (9, 7, 1), (6, 10, 4)])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_same_as_in_folder(self, tmp_path, shape, orientation):
        """Also for phones, which store how the photo must be rotated."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3))
        file = tmp_path / "one" / "photo.jpg"
        save(file, pixels, exif=exif)
        (expected,), _ = load(tmp_path, shape)
        for path in (file, str(file)):
            image = load_image(path, shape)
            assert_array_equal(image, expected)
            assert image.dtype == np.uint8

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.png"):
            load_image(tmp_path / "none.png")

    def test_no_image(self, tmp_path):
        (tmp_path / "text.png").write_text("no image")
        with pytest.raises(ValueError, match=r"text\.png.*UnidentifiedImageError"):
            load_image(tmp_path / "text.png")

    def test_invalid_shape(self, tmp_path):
        with pytest.raises(ValueError, match=r"shape must be .* Got \(8, 8, 2\)"):
            load_image(tmp_path / "1.png", (8, 8, 2))
