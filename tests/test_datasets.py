import builtins
import os
import warnings

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sktriplet import TripletEmbedder
from sktriplet.datasets import load_image_folder
from sktriplet.exceptions import UnreadableImageWarning

Image = pytest.importorskip("PIL.Image")

COLOURS = {"green": (0, 200, 0), "red": (250, 0, 0)}


def save(path, pixels, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **settings)


def plain(colour, height=12, width=12):
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, np.size(colour)))


@pytest.fixture
def folder(tmp_path):
    """Three images of each of two classes, one of them deeper down, in two formats."""
    path = tmp_path / "images"
    for name, colour in COLOURS.items():
        save(path / name / "b.png", plain(colour))
        save(path / name / "a.jpg", plain(colour), quality=95)
        save(path / name / "more" / "c.PNG", plain(colour))
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
        assert np.abs(image - np.array(COLOURS[label], float)).max() < 4


def test_pixels_are_those_of_the_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 3))
    save(tmp_path / "one" / "1.png", pixels)
    (image,), _ = load(tmp_path, (5, 9, 3))
    assert_array_equal(image, pixels)


class TestShape:
    @pytest.mark.parametrize("shape", [(4, 6), (6, 4, 1), [5, 5, 3], (5, 5, 4)], ids=str)
    def test_every_kind(self, folder, shape):
        images, _ = load(folder, shape)
        assert images.shape == (6, *shape)

    @pytest.mark.parametrize(
        "shape",
        [(8,), (8, 8, 2), (0, 8), (8.0, 8), "88", 8, (3, 8, 8), (8, 8, 3, 1), None],
        ids=str,
    )
    def test_wrong(self, folder, shape):
        with pytest.raises(ValueError, match=r"^shape must be \(height, width\)"):
            load(folder, shape)

    def test_colours_are_made_grey_and_grey_is_made_colour(self, tmp_path):
        save(tmp_path / "one" / "1.png", plain((255, 0, 0)))
        save(tmp_path / "one" / "2.png", plain((90,))[..., 0])
        grey, _ = load(tmp_path, (8, 8))
        assert grey[:, 0, 0].tolist() == [76, 90]
        colour, _ = load(tmp_path, (8, 8, 3))
        assert colour[:, 0, 0].tolist() == [[255, 0, 0], [90, 90, 90]]

    def test_what_is_too_wide_is_cut_off_on_both_sides(self, tmp_path):
        pixels = np.zeros((10, 30, 3))
        pixels[:, 10:20] = 255
        save(tmp_path / "one" / "1.png", pixels)
        save(tmp_path / "one" / "2.png", pixels.transpose(1, 0, 2))
        images, _ = load(tmp_path, (10, 10, 3))
        assert (images == 255).all()

    def test_a_large_photograph(self, tmp_path):
        """JPEG files are decoded at a smaller size, but not too small a one."""
        ramp = np.broadcast_to(np.linspace(0, 255, 1200)[None, :, None], (800, 1200, 3))
        save(tmp_path / "one" / "1.jpg", ramp, quality=95)
        save(tmp_path / "one" / "2.png", ramp)
        (photograph, exact), _ = load(tmp_path, (32, 48, 3))
        assert np.abs(photograph.astype(int) - exact).max() < 5


class TestKindsOfFiles:
    def test_turned_by_exif(self, tmp_path):
        pixels = np.zeros((8, 8, 3))
        pixels[:4] = 255
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        save(tmp_path / "one" / "1.png", pixels, exif=exif)
        (image,), _ = load(tmp_path)
        assert_array_equal(image, pixels[::-1])

    def test_sixteen_bits(self, tmp_path):
        (tmp_path / "one").mkdir()
        Image.fromarray(np.full((8, 8), 50 * 256, np.uint16)).save(tmp_path / "one" / "1.png")
        (image,), _ = load(tmp_path, (8, 8))
        assert (image == 50).all()

    def test_palette_with_transparency(self, tmp_path):
        (tmp_path / "one").mkdir()
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.save(tmp_path / "one" / "1.png", transparency=b"\x00\xff")
        (image,), _ = load(tmp_path, (8, 8, 4))
        assert image[0, 0].tolist() == [10, 20, 30, 255]

    def test_hidden_empty_and_stray_ones_are_passed_over(self, folder):
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


class TestUnreadable:
    @pytest.fixture
    def broken(self, folder):
        """Files that cannot be read, each in another way, among those that can."""
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

    @pytest.mark.parametrize("in_a_file", [False, True], ids=["memory", "file"])
    def test_left_out_and_told(self, broken, tmp_path, in_a_file):
        file = tmp_path / "images.npy" if in_a_file else None
        with pytest.warns(UnreadableImageWarning, match="^5 of 11 files could not be") as caught:
            images, labels, paths = load(broken, memmap=file, return_paths=True)
        assert len(caught) == 1
        told = caught[0].message
        assert [os.path.basename(path) for path in told.reasons] == list(self.names)
        for path, reason in told.reasons.items():
            assert f"{path}: {reason}" in str(told)
        assert len(images) == len(labels) == len(paths) == 6
        for name in COLOURS:
            assert np.abs(images[labels == name] - np.array(COLOURS[name], float)).max() < 4

    def test_a_long_list_is_cut_short(self, folder):
        for number in range(50):
            (folder / "red" / f"{number:02}.png").write_text("x")
        with pytest.warns(UnreadableImageWarning) as caught:
            load(folder)
        assert str(caught[0].message).endswith("and 30 more")
        assert len(caught[0].message.reasons) == 50

    @pytest.mark.parametrize("in_a_file", [False, True], ids=["memory", "file"])
    def test_all_of_them(self, tmp_path, in_a_file):
        (tmp_path / "images" / "red").mkdir(parents=True)
        (tmp_path / "images" / "red" / "1.png").write_text("x")
        file = tmp_path / "images.npy" if in_a_file else None
        with pytest.raises(ValueError, match=r"^None of the files .*\n  .*1\.png: Unidentified"):
            load(tmp_path / "images", memmap=file)
        assert os.listdir(tmp_path) == ["images"]


class TestPath:
    def test_no_folder(self, tmp_path):
        with pytest.raises(NotADirectoryError, match=r"^path must be a folder .* does not exist"):
            load(tmp_path / "nowhere")
        (tmp_path / "file").write_text("x")
        with pytest.raises(NotADirectoryError, match="which is a file"):
            load(tmp_path / "file")

    def test_no_class_folders(self, tmp_path):
        save(tmp_path / "1.png", plain((0, 0, 0)))
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match=r"^path must hold a folder of images for each class"):
            load(tmp_path)

    def test_strings_are_paths(self, folder):
        assert_array_equal(load(str(folder))[0], load(folder)[0])


class TestMemmap:
    def test_same_images(self, folder, tmp_path):
        file = tmp_path / "images.npy"
        in_memory, labels = load(folder)
        images, same_labels = load(folder, memmap=file)
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
        assert_array_equal(images, in_memory)
        assert_array_equal(labels, same_labels)

    def test_reopened(self, folder, tmp_path):
        (folder / "green" / "broken.png").write_text("x")
        file = tmp_path / "images.npy"
        with pytest.warns(UnreadableImageWarning):
            images, _ = load(folder, (8, 9, 3), str(file))
        assert_array_equal(np.load(file, mmap_mode="r"), images)
        assert_array_equal(np.load(file), images)
        assert file.stat().st_size == images.offset + images.size

    def test_an_older_file_is_replaced_when_all_is_read(self, folder, tmp_path, monkeypatch):
        file = tmp_path / "images.npy"
        file.write_text("old")

        def interrupt(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("sktriplet.datasets._Target.append", interrupt)
            with pytest.raises(KeyboardInterrupt):
                load(folder, memmap=file)
        assert file.read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["images", "images.npy"]
        load(folder, memmap=file)
        assert len(np.load(file)) == 6

    def test_trained_from(self, folder, tmp_path):
        for number in range(6):
            for name, colour in COLOURS.items():
                save(folder / name / f"{number}.png", plain(colour))
        images, labels = load(folder, memmap=tmp_path / "images.npy")
        embedder = TripletEmbedder(2, max_epochs=1, random_state=0).fit(images, labels)
        assert embedder.score(images, labels) == 1


@pytest.mark.parametrize("n_jobs", [2, -1])
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_change_nothing(folder, n_jobs, backend):
    (folder / "green" / "broken.png").write_text("x")
    with pytest.warns(UnreadableImageWarning):
        images, labels, paths = load(folder, return_paths=True)
    with joblib.parallel_config(backend), pytest.warns(UnreadableImageWarning):
        again = load(folder, return_paths=True, n_jobs=n_jobs)
    for one, other in zip((images, labels, paths), again, strict=True):
        assert_array_equal(one, other)


def test_progress_bar(folder, capsys):
    load(folder, verbose=True)
    assert "6/6" in capsys.readouterr().err
    load(folder)
    assert capsys.readouterr().err == ""


def test_without_pillow(folder, monkeypatch):
    real_import = builtins.__import__

    def no_pillow(name, *args, **kwargs):
        if name.partition(".")[0] == "PIL":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(ImportError, match=r"needs Pillow.*pip install 'sktriplet\[image\]'"):
        load(folder)


@pytest.mark.parametrize("levels", [np.full((9, 9), 0.5, np.float32), np.full((9, 9), 70000)])
def test_grey_levels_that_are_not_those_of_16_bits(tmp_path, levels):
    save(tmp_path / "a" / "1.png", np.full((9, 9), 50))
    Image.fromarray(levels.astype(levels.dtype if levels.dtype.kind == "f" else np.int32)).save(
        tmp_path / "a" / "2.tiff"
    )
    with pytest.warns(UnreadableImageWarning, match="grey levels of type .* not those of 16 bits"):
        images, _ = load(tmp_path, (8, 8))
    assert len(images) == 1


def test_a_warning_that_is_an_error_leaves_no_half_file(folder, tmp_path):
    (folder / "red" / "broken.png").write_bytes(b"no image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableImageWarning):
            load(folder, memmap=tmp_path / "out.npy")
    assert not list(tmp_path.glob("*.part"))


def test_a_memmap_that_is_a_folder(folder, tmp_path):
    with pytest.raises(IsADirectoryError, match="memmap must be a file"):
        load(folder, memmap=tmp_path)
    assert not list(tmp_path.parent.glob("*.part"))
