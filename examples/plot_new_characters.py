"""
Search for characters that are not in the training data
=======================================================

An embedder learns which differences between images matter, and this knowledge applies to classes
that it has never seen. This example trains on some of the capital letters, currency signs, and
other symbols of the fonts bundled with matplotlib, and searches among images of the others. The
images differ in their font, position, size, and rotation.
"""

# %%
# Draw the characters
# -------------------
# Each character is drawn in twelve fonts. Characters that look the same, such as Latin A and Greek
# Alpha, are one class.

from pathlib import Path
from unicodedata import category, normalize

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import FunctionTransformer

from sktriplet import TripletEmbedder
from sktriplet.display import NeighborsDisplay
from sktriplet.metrics import mean_average_precision_at_r_score

rng = np.random.default_rng(0)
folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
paths = [
    str(path)
    for family in ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
    for path in sorted([folder / f"{family}.ttf", *folder.glob(f"{family}-*.ttf")])
]
fonts = [[ImageFont.truetype(path, size) for size in range(11, 16)] for path in paths]


def draw(character, font, angle=0.0, position=(10, 10)):
    """Return an image of 20 x 20 pixels."""
    image = Image.new("L", (20, 20))
    ImageDraw.Draw(image).text(position, character, fill=255, font=font, anchor="mm")
    return np.asarray(image.rotate(angle, Image.Resampling.BILINEAR))


in_all_fonts = set.intersection(*(set(FT2Font(path).get_charmap()) for path in paths))
candidates = [
    chr(code)
    for code in sorted(in_all_fonts)
    if (category(chr(code)) in ("Lu", "Sc") or 0x2600 <= code <= 0x266F)
    and normalize("NFKD", chr(code)) == chr(code)  # no accents
]
different = {draw(character, fonts[0][2]).tobytes(): character for character in candidates[::-1]}
characters = sorted(different.values())
y = np.repeat(characters, len(fonts))
X = np.stack(
    [
        draw(
            character,
            font=sizes[rng.integers(len(sizes))],
            angle=rng.normal(scale=8),
            position=rng.uniform(8, 12, size=2),
        )
        for character in characters
        for sizes in fonts
    ]
)
known = rng.choice(characters, size=len(characters) * 2 // 3, replace=False)
is_new = ~np.isin(y, known)
new = [character for character in characters if character not in known]
print(f"{len(known)} characters to learn from, {(~is_new).sum()} images")
print(f"{len(new)} new characters: {' '.join(new)}")

# %%
# Search among new characters
# ---------------------------
# Of the R images of the same character in other fonts, how many are among the R nearest neighbors?
# MAP@R, the mean average precision at R, also takes into account how near they are.


def flatten(images):
    return images.reshape(len(images), -1).astype(np.float32)


models = {
    "raw pixels": FunctionTransformer(flatten),
    "LDA": LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=64),
    "TripletEmbedder": TripletEmbedder(max_epochs=8, random_state=0),
}
embeddings, scores = {}, {}
for name, model in models.items():
    images = flatten(X) if name == "LDA" else X
    embeddings[name] = model.fit(images[~is_new], y[~is_new]).transform(images[is_new])
    scores[name] = mean_average_precision_at_r_score(embeddings[name], y[is_new])
    print(f"{name:16} MAP@R {scores[name]:.3f}")

# %%
# Show the neighbors
# ------------------
# Six images of new characters, and the nearest of all other images of new characters. Those of the
# same character have a solid green frame, others a dashed orange one.

queries = np.searchsorted(y[is_new], rng.choice(new, size=6, replace=False)) + 3
shown = 255 - X[is_new]  # black on white
fig = plt.figure(figsize=(11, 5.6), layout="constrained")
for panel, name in zip(fig.subfigures(1, 2), ("raw pixels", "TripletEmbedder"), strict=True):
    NeighborsDisplay.from_predictions(
        embeddings[name], y[is_new], shown, queries=queries, n_neighbors=6, ax=panel.subplots()
    )
    panel.suptitle(f"{name}: MAP@R {scores[name]:.2f}", fontsize=14)
plt.show()
