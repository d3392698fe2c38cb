"""Images of emoji and of letters, from package registries, for the benchmark of unseen classes.

Emoji: the npm packages emoji-datasource-google, -twitter and -facebook (MIT), with images by
Google (Apache 2.0), Twitter (CC BY 4.0) and Facebook (no license stated, copyright Facebook).
Letters: typefaces from Debian packages, all under free licenses, which the packages contain.
Images are rendered into scikit-learn's data folder, and are neither redistributed nor part of the
repository.
"""

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import get_data_home

CACHE = Path(get_data_home()) / "sktriplet-unseen"
SIDE = 24

Glyphs = dict[str, NDArray[np.uint8]]

VENDORS, VERSION = ("google", "twitter", "facebook"), "16.0.0"

FONT_PACKAGES = """
3270 adf-accanthis adf-baskervald adf-berenis adf-gillius adf-ikarius adf-irianis adf-libris
adf-mekanus adf-romande adf-solothurn adf-switzera adf-tribun adf-universalis adf-verana agave
allerta anonymous-pro arapey averia-gwf averia-sans-gwf averia-serif-gwf b612 bajaderka beteckna
blankenburg breip cabin cantarell cardo century-catalogue clear-sans cmu comfortaa comic-neue
crosextra-caladea crosextra-carlito dancingscript dejavu-core dosis dustin ebgaramond
ecolier-court essays1743 eurofurence fantasque-sans fanwood femkeklaver ferrite-core firacode
freefont-ttf georgewilliams gfs-artemisia gfs-bodoni-classic gfs-didot gfs-neohellenic gfs-olga
gfs-porson gnutypewriter go goudybookletter hack havana hermit humor-sans inconsolata inter
isabella jetbrains-mono johnsmith-induni junction jura karla kaushanscript klaudia-berenika kristi
lato league-mono leckerli-one lemonada liberation lindenhill linuxlibertine lmodern manrope
monofur monoid mononoki national-park noto-mono ocr-a ocr-b okolaks oldstandard open-sans opendin
opendyslexic osifont oxygen paratype play prociono quattrocento quicksand radisnoir
ricty-diminished roboto-slab roboto-unhinted routed-gothic rufscript sil-andika sil-charis
sil-galatia sil-gentiumplus sjfonts sora staypuft stix summersby texgyre tiresias tomsontalks
triod-postnaja tuffy uralic urw-base35 vollkorn yanone-kaffeesatz yrsa-rasa
"""
LETTERS = [
    *map(chr, range(ord("A"), ord("Z") + 1)),
    *map(chr, range(ord("a"), ord("z") + 1)),
    *(chr(i) for i in range(ord("Α"), ord("Ω") + 1) if i != 0x3A2),  # noqa: RUF001
    *map(chr, range(ord("α"), ord("ω") + 1)),  # noqa: RUF001
    *map(chr, range(ord("А"), ord("я") + 1)),  # noqa: RUF001
]
STYLES = {
    "regular": r"regular|roman\??|book|medium|standard|normal|hand|din|mono|12 regular|10 regular",
    "bold": r"bold|demi|demibold|12 bold|10 bold",
}
NO_TEXT = r"caps|titling|symbol|math|initials|keyboard|oblique|italic|slanted|STIX(?!General)"
UNASSIGNED = "\U0010ffff"
CAP_HEIGHT, BASELINE = 12, 18
# Letters such as Latin A and Greek Alpha form one class if their glyphs match in at least this
# fraction of the typefaces. Typefaces are duplicates if this fraction of their glyphs matches.
MIN_MATCHING_FRACTION = 0.5
# Maximum mean absolute difference of matching glyphs, relative to their mean intensity.
MAX_RELATIVE_DIFFERENCE = 0.15


@dataclass
class Images:
    """Images with their classes and cameras; a camera is a vendor or a typeface."""

    images: NDArray[np.uint8]
    classes: NDArray[np.intp]
    cameras: NDArray[np.intp]

    def __getitem__(self, chosen: NDArray) -> "Images":
        return Images(self.images[chosen], self.classes[chosen], self.cameras[chosen])

    @property
    def digest(self) -> str:
        """Identify the images, which depend on the versions of the packages and of FreeType."""
        return hashlib.sha256(self.images.tobytes() + self.classes.tobytes()).hexdigest()[:12]


def split(data: Images, seed: int, camera_share: float | None) -> tuple[Images, Images]:
    """Split the classes in half, and assign a share of the cameras, or all, to the first half.

    The second half has the remaining cameras, or all.
    """
    rng = np.random.default_rng(seed)
    classes, cameras = np.unique(data.classes), np.unique(data.cameras)
    in_first = np.isin(data.classes, rng.permutation(classes)[: len(classes) // 2])
    if camera_share is None:
        return data[in_first], data[~in_first]
    n_first = round(camera_share * len(cameras))
    from_first = np.isin(data.cameras, rng.permutation(cameras)[:n_first])
    return data[in_first & from_first], data[~in_first & ~from_first]


def load(name: str) -> Images:
    """Return the images of a data set, which is downloaded and rendered if necessary."""
    file = CACHE / f"{name}-{SIDE}.npz"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        images, *labels = zip(*DATA[name](), strict=True)
        columns = [np.unique(column, return_inverse=True)[1] for column in labels]
        np.savez_compressed(file, np.stack(images), *columns)
    with np.load(file) as arrays:
        return Images(*arrays.values())


# Emoji. This function and `letters` yield images, classes, and cameras.


def emoji() -> Iterator[tuple[NDArray[np.uint8], int, str]]:
    """Yield the emoji that all vendors have drawn, without variants of the skin tone."""
    from PIL import Image

    for vendor in VENDORS:
        package = f"emoji-datasource-{vendor}"
        archive = CACHE / f"{package}-{VERSION}.tgz"
        if not archive.exists():
            command = ["npm", "pack", "--silent", f"{package}@{VERSION}"]
            subprocess.run(command, cwd=CACHE, check=True)
        pattern = re.compile(rf"package/(emoji\.json|img/{vendor}/64/.*)")
        files = {}
        with tarfile.open(archive) as members:
            for member in members:
                if pattern.fullmatch(member.name):
                    files[Path(member.name).name] = members.extractfile(member).read()
        for number, entry in enumerate(json.loads(files["emoji.json"])):
            if entry["category"] == "Component" or not all(entry[f"has_img_{v}"] for v in VENDORS):
                continue
            image = Image.open(io.BytesIO(files[entry["image"]])).convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
            yield np.asarray(image), number, vendor


# Letters.


def letters() -> Iterator[tuple[NDArray[np.uint8], int, str]]:
    """Yield Latin, Greek and Cyrillic letters, regular and bold, in a typeface per package."""
    typefaces: dict[str, dict[str, Glyphs]] = {}
    for package in FONT_PACKAGES.split():
        for styles in read_typefaces(package):
            regular = draw_letters(styles["regular"])
            if is_text(regular) and not any(
                matching_fraction(regular, other["regular"]) >= MIN_MATCHING_FRACTION
                for other in typefaces.values()
            ):
                typefaces[package] = {name: draw_letters(file) for name, file in styles.items()}
                break
    class_of = merge_homoglyphs([styles["regular"] for styles in typefaces.values()])
    for package, styles in typefaces.items():
        for letter, image in (item for glyphs in styles.values() for item in glyphs.items()):
            if class_of[letter] == letter:
                yield image, LETTERS.index(letter), package


def read_typefaces(package: str) -> list[dict[str, bytes]]:
    """Return the font files of the regular, and of the bold style of the typefaces in a package."""
    from PIL import ImageFont

    folder = CACHE / "fonts"
    folder.mkdir(exist_ok=True)
    if not [*folder.glob(f"fonts-{package}_*.deb")]:
        subprocess.run(["apt-get", "download", "-q", f"fonts-{package}"], cwd=folder, check=True)
    (archive,) = folder.glob(f"fonts-{package}_*.deb")
    command = ["dpkg-deb", "--fsys-tarfile", archive]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    typefaces: dict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(fileobj=io.BytesIO(content)) as members:
        for member in sorted(members.getmembers(), key=lambda member: member.name):
            if not (member.isfile() and member.name.lower().endswith((".ttf", ".otf"))):
                continue
            file = members.extractfile(member).read()
            typeface, style = ImageFont.truetype(io.BytesIO(file), 20).getname()
            if typeface is None or re.search(NO_TEXT, typeface, re.IGNORECASE):
                continue
            for name, pattern in STYLES.items():
                if re.fullmatch(pattern, (style or "").strip(), re.IGNORECASE):
                    typefaces[typeface].setdefault(name, file)
    return [styles for _, styles in sorted(typefaces.items()) if "regular" in styles]


def draw_letters(file: bytes) -> Glyphs:
    """Draw the letters that a font has, scaled to the same height of capitals."""
    from PIL import Image, ImageDraw, ImageFont

    height = -ImageFont.truetype(io.BytesIO(file), 100).getbbox("H", anchor="ls")[1]
    if height < 10:
        return {}
    font = ImageFont.truetype(io.BytesIO(file), 100 * CAP_HEIGHT / height)
    missing = bytes(font.getmask(UNASSIGNED))
    glyphs = {}
    for letter in LETTERS:
        mask = font.getmask(letter)
        if not mask.getbbox() or bytes(mask) == missing:
            continue
        image = Image.new("L", (SIDE, SIDE))
        draw = ImageDraw.Draw(image)
        draw.text((SIDE / 2, BASELINE), letter, fill=255, font=font, anchor="ms")
        glyphs[letter] = np.asarray(image)
    return glyphs


def is_text(glyphs: Glyphs) -> bool:
    """Return whether a font has Latin letters of both cases."""
    latin = LETTERS[:26]
    if any(letter not in glyphs or letter.lower() not in glyphs for letter in latin):
        return False
    matches = [glyphs_match(glyphs[letter], glyphs[letter.lower()]) for letter in latin]
    return sum(matches) < MIN_MATCHING_FRACTION * len(latin)


def glyphs_match(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Return whether two glyphs are nearly identical."""
    difference = np.abs(one.astype(int) - other).mean()
    return bool(2 * difference <= MAX_RELATIVE_DIFFERENCE * (one.mean() + other.mean()))


def matching_fraction(one: Glyphs, other: Glyphs) -> float:
    """Return the fraction of the letters in both typefaces whose glyphs match."""
    shared = [letter for letter in one if letter in other]
    return float(np.mean([glyphs_match(one[letter], other[letter]) for letter in shared]))


def merge_homoglyphs(typefaces: list[Glyphs]) -> dict[str, str]:
    """Map each letter to the first one whose glyphs match its own in most typefaces."""
    class_of: dict[str, str] = {}
    for letter in LETTERS:
        class_of[letter] = letter
        for earlier in [earlier for earlier, kept in class_of.items() if earlier == kept][:-1]:
            both = [glyphs for glyphs in typefaces if letter in glyphs and earlier in glyphs]
            matches = [glyphs_match(glyphs[letter], glyphs[earlier]) for glyphs in both]
            if both and np.mean(matches) >= MIN_MATCHING_FRACTION:
                class_of[letter] = earlier
                break
    return class_of


DATA = {"emoji": emoji, "letters": letters}
