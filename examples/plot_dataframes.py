"""
DataFrames in and out
=====================

A table with names, categories and gaps goes in, and a table with names and the same index comes
out: ``set_output`` works as with any transformer of scikit-learn.
"""

# %%
# A table
# -------
# Made up: second-hand bicycles, in four kinds that differ in weight, tyres, gears and brakes, and
# by brand hardly at all. One weight in ten is missing.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sktriplet import TripletEmbedder
from sktriplet.display import EmbeddingDisplay

start = perf_counter()
rng = np.random.default_rng(0)
n = 800
kind = rng.choice(["road", "gravel", "mountain", "city"], size=n)
typical = pd.DataFrame(
    {"weight": [8.5, 10, 13, 15.5], "tyre": [27, 42, 56, 45], "gears": [22, 20, 12, 8]},
    index=["road", "gravel", "mountain", "city"],
)
disc = {"road": 0.4, "gravel": 0.9, "mountain": 0.97, "city": 0.4}
bicycles = pd.DataFrame(
    {
        "weight": typical["weight"].loc[kind].to_numpy() + rng.normal(scale=1.6, size=n),
        "tyre": typical["tyre"].loc[kind].to_numpy() + rng.normal(scale=7, size=n),
        "gears": typical["gears"].loc[kind].to_numpy() + rng.integers(-3, 4, size=n),
        "brakes": np.where(rng.random(n) < pd.Series(disc).loc[kind], "disc", "rim"),
        "frame": rng.choice(["steel", "aluminium", "carbon"], size=n),
        "brand": rng.choice(["Alba", "Brezza", "Corsa", "Dorado", "Estrella"], size=n),
        "price": np.exp(rng.normal(6.5, 0.6, size=n)).round(),
    },
    index=[f"bicycle {number}" for number in range(n)],
)
bicycles.loc[rng.random(n) < 0.1, "weight"] = np.nan
train, test, kind_train, kind_test = train_test_split(bicycles, kind, stratify=kind, random_state=0)
print(train.head().round(1).to_string())

# %%
# In
# --
# What is not a number is one-hot encoded, and gaps are filled. ``set_output(transform="pandas")``
# on the pipeline makes every step hand a DataFrame to the next.

columns = make_column_transformer(
    (
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        make_column_selector(dtype_exclude="number"),
    ),
    (SimpleImputer(add_indicator=True), make_column_selector(dtype_include="number")),
    verbose_feature_names_out=False,
)
embed = make_pipeline(columns, TripletEmbedder(8, random_state=0)).set_output(transform="pandas")
embed.fit(train, kind_train)
print(f"the network has seen {list(embed[-1].feature_names_in_)}")

# %%
# Out
# ---
# The index is that of the rows, so that results can be joined to them.

embedding = embed.transform(test)
print(embedding.head(3).round(2).to_string())
search = NearestNeighbors(n_neighbors=4).fit(embedding)
_, found = search.kneighbors(embedding[:1])
print("\nmost like the first one, itself included")
print(test.iloc[found[0]].assign(kind=kind_test[found[0]]).round(1).to_string())

# %%
# Was it worth it?
# ----------------

plain = make_pipeline(columns, StandardScaler()).set_output(transform="pandas")
tables = {"scaled columns": plain.fit(train), "TripletEmbedder": embed}
print()
for name, model in tables.items():
    knn = KNeighborsClassifier().fit(model.transform(train), kind_train)
    print(f"{name:18}{knn.score(model.transform(test), kind_test):.3f} of new bicycles right")

# %%
# A picture
# ---------

figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
for ax, (name, model) in zip(axes, tables.items(), strict=True):
    EmbeddingDisplay.from_predictions(model.transform(test), kind_test, ax=ax)
    ax.set_title(name)
axes[0].get_legend().remove()
figure.savefig("dataframes.png", dpi=80)
print(f"\nA picture is in dataframes.png ({perf_counter() - start:.0f} s in all)")
