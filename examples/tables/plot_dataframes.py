"""
DataFrames with mixed column types
==================================

This example embeds a pandas DataFrame with categorical columns and missing values, without
preprocessing, and returns a DataFrame with the same index. As with all scikit-learn transformers,
the output type is configured with ``set_output``.
"""

# %%
# Generate a data set
# -------------------
# Second-hand bicycles of four types, which differ in weight, tires, gears and brakes, while the
# frame, the brand and the price are uninformative. One in ten weights is missing.

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

rng = np.random.default_rng(0)
n_samples = 800
bicycle_types = ["road", "gravel", "mountain", "city"]
y = rng.choice(bicycle_types, size=n_samples)
means = pd.DataFrame(
    {"weight": [8.5, 10, 13, 15.5], "tire": [27, 42, 56, 45], "gears": [22, 20, 12, 8]},
    index=bicycle_types,
)
p_disc_brakes = pd.Series([0.4, 0.9, 0.97, 0.4], index=bicycle_types)
X = pd.DataFrame(
    {
        "weight": means["weight"].loc[y].to_numpy() + rng.normal(scale=1.6, size=n_samples),
        "tire": means["tire"].loc[y].to_numpy() + rng.normal(scale=7, size=n_samples),
        "gears": means["gears"].loc[y].to_numpy() + rng.integers(-3, 4, size=n_samples),
        "brakes": np.where(rng.random(n_samples) < p_disc_brakes.loc[y], "disc", "rim"),
        "frame": rng.choice(["steel", "aluminum", "carbon"], size=n_samples),
        "brand": rng.choice(["Alba", "Brezza", "Corsa", "Dorado", "Estrella"], size=n_samples),
        "price": np.exp(rng.normal(6.5, 0.6, size=n_samples)).round(),
    },
    index=[f"bicycle {i}" for i in range(n_samples)],
)
X.loc[rng.random(n_samples) < 0.1, "weight"] = np.nan
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
print(X_train.head().round(1).to_string())

# %%
# Fit the embedder
# ----------------
# The columns of text are recognized as categorical features. With
# ``set_output(transform="pandas")``, the embedder returns a DataFrame.

embedder = TripletEmbedder(n_components=16, random_state=0).set_output(transform="pandas")
embedder.fit(X_train, y_train)
print(f"features: {list(embedder.feature_names_in_)}")

# %%
# Embed the test samples
# ----------------------
# The embedding has the index of the input, so it can be joined with other columns.

X_embedded = embedder.transform(X_test)
print(X_embedded.iloc[:3, :6].round(2).to_string())
search = NearestNeighbors(n_neighbors=4).fit(X_embedded)
_, neighbors = search.kneighbors(X_embedded[:1])
print("\nnearest neighbors of the first bicycle, including itself")
print(X_test.iloc[neighbors[0]].assign(type=y_test[neighbors[0]]).round(1).to_string())

# %%
# Compare with scaled features
# ----------------------------
# Other transformers need encoders and imputation first.

preprocessor = make_column_transformer(
    (
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        make_column_selector(dtype_exclude="number"),
    ),
    (SimpleImputer(add_indicator=True), make_column_selector(dtype_include="number")),
)
scaler = make_pipeline(preprocessor, StandardScaler()).set_output(transform="pandas")
models = {"scaled features": scaler.fit(X_train), "TripletEmbedder": embedder}
for name, model in models.items():
    knn = KNeighborsClassifier().fit(model.transform(X_train), y_train)
    print(f"{name:16} 5-NN accuracy: {knn.score(model.transform(X_test), y_test):.3f}")

# %%
# Plot the test samples
# ---------------------

fig, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    EmbeddingDisplay.from_predictions(model.transform(X_test), y_test, ax=ax)
    ax.set_title(name)
axes[0].get_legend().remove()
plt.show()
