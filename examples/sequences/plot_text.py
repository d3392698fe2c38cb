"""
Text: ids of tokens for an embedding layer
==========================================

With ``standardize=False``, a custom ``module`` receives integers unchanged. This example passes the
ids of words to an embedding layer, which learns a vector for each word, and compares it with the
usual TF-IDF features.
"""

# %%
# Collect texts
# -------------
# The texts are the first 60 words of the docstrings of SciPy's functions and classes, without the
# first line, and the labels are their subpackages.

import importlib
import re

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay

SUBPACKAGES = "fft integrate interpolate linalg ndimage optimize signal sparse spatial special"
texts, labels = [], []
for name in SUBPACKAGES.split():
    module = importlib.import_module(f"scipy.{name}")
    for member in sorted(set(module.__all__)):
        description = (getattr(module, member).__doc__ or "").partition("Examples")[0]
        words = re.findall(r"[a-z]{3,}", description.partition("\n")[2])[:60]
        if len(words) >= 10 and member not in ("test", "qmc"):
            texts.append(" ".join(words))
            labels.append(name)
y = np.array(labels)
texts_train, texts_test, y_train, y_test = train_test_split(
    texts, y, test_size=0.4, stratify=y, random_state=0
)
print(f"{len(texts_train)} training texts, {len(texts_test)} test texts, {len(set(y))} classes")

# %%
# Convert words to ids
# --------------------
# Each text becomes a row of ids of the same length. Words that are not in at least two training
# texts have the id 1, and short texts are padded by the id 0.

counter = CountVectorizer(min_df=2, stop_words="english").fit(texts_train)
ids = {word: number for number, word in enumerate(sorted(counter.vocabulary_), start=2)}
tokenize = counter.build_analyzer()


def to_ids(texts, length=50):
    rows = np.zeros((len(texts), length), np.int64)
    for row, text in zip(rows, texts, strict=True):
        known = [ids.get(word, 1) for word in tokenize(text)[:length]]
        row[: len(known)] = known
    return rows


# %%
# Define the network
# ------------------
# It averages the vectors of the words of a text. ``padding_idx`` excludes the padding.


class EmbeddingBag(nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        self.words = nn.EmbeddingBag(len(ids) + 2, 128, mode="mean", padding_idx=0)
        self.head = nn.Sequential(nn.BatchNorm1d(128), nn.Linear(128, n_components))

    def forward(self, X):
        return self.head(self.words(X))


# %%
# Compare the features
# --------------------

tfidf = TfidfVectorizer(min_df=2, stop_words="english").fit(texts_train)
torch.manual_seed(0)
settings = {"max_epochs": 12, "random_state": 0}
models = {
    "TF-IDF": (None, tfidf.transform),
    "TF-IDF, embedded": (TripletEmbedder(**settings), tfidf.transform),
    "embedding layer": (
        TripletEmbedder(module=EmbeddingBag, standardize=False, **settings),
        to_ids,
    ),
}
for name, (embedder, convert) in models.items():
    train, test = convert(texts_train), convert(texts_test)
    if embedder is not None:
        train = embedder.fit_transform(train, y_train)
        test = embedder.transform(test)
    knn = KNeighborsClassifier(5, metric="cosine").fit(train, y_train)
    print(f"{name:18} accuracy: {accuracy_score(y_test, knn.predict(test)):.3f}")

# %%
# An id that the layer does not have raises an error, in ``fit`` before training starts.

embedder = models["embedding layer"][0]
try:
    embedder.transform(np.full((1, 50), len(ids) + 2))
except ValueError as error:
    print(error)

# %%
# Plot the embeddings
# -------------------
# Test texts of five subpackages.

is_shown = np.isin(y_test, ["fft", "integrate", "linalg", "ndimage", "special"])
fig, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
for ax, name in zip(axes, list(models)[1:], strict=True):
    embedder, convert = models[name]
    shown = [text for text, flag in zip(texts_test, is_shown, strict=True) if flag]
    EmbeddingDisplay.from_estimator(embedder, convert(shown), y_test[is_shown], ax=ax)
    ax.set_title(name)
plt.show()
