"""Scorers transform samples and call a retrieval score, also in scikit-learn's searches."""

import inspect
import pickle
from functools import partial

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktriplet import metrics
from sktriplet.metrics import recall_at_k_score, recall_at_k_scorer

SCORERS = {name: getattr(metrics, name) for name in metrics.__all__ if name.endswith("_scorer")}
every_scorer = pytest.mark.parametrize("name", SCORERS)


def test_every_retrieval_score_has_a_scorer():
    functions = {name: getattr(metrics, name) for name in metrics.__all__}
    scores = [
        name
        for name, function in functions.items()
        if name.endswith("_score") and "embeddings" in inspect.signature(function).parameters
    ]
    assert sorted(SCORERS) == sorted(f"{name}r" for name in scores)


@every_scorer
def test_scorer_scores_transformed_samples(name, iris):
    X, y = iris
    scorer, score = SCORERS[name], getattr(metrics, name[:-1])
    pca = PCA(2).fit(X)
    assert scorer(pca, X, y) == score(pca.transform(X), y)
    assert scorer(pca, X, y, metric="cosine") == score(pca.transform(X), y, metric="cosine")


def test_recall_at_k_scorer_uses_k(iris):
    X, y = iris
    pca = PCA(1).fit(X)
    at_one, at_five = (partial(recall_at_k_scorer, k=k)(pca, X, y) for k in (1, 5))
    assert at_one < at_five == recall_at_k_score(pca.transform(X), y, k=5)


@every_scorer
def test_scorer_can_be_pickled(name):
    scorer = SCORERS[name]
    assert pickle.loads(pickle.dumps(scorer)) is scorer
    assert scorer.__name__ == name


def test_scorers_in_cross_validation(iris):
    scores = cross_validate(
        make_pipeline(StandardScaler(), PCA(2)),
        *iris,
        cv=StratifiedKFold(),
        scoring=SCORERS,
        error_score="raise",
    )
    for name in SCORERS:
        assert (scores[f"test_{name}"] > 0.6).all()


def test_scorer_in_grid_search_by_class(make_embedder):
    rng = np.random.default_rng(0)
    y = np.repeat([f"class {number}" for number in range(6)], 10)
    X = rng.normal(size=(6, 4))[np.arange(60) // 10] + rng.normal(size=(60, 4)) / 5
    search = GridSearchCV(
        make_embedder(max_epochs=1),
        {"margin": [0.2, 1.0]},
        scoring=partial(recall_at_k_scorer, k=2),
        cv=GroupKFold(3),
        error_score="raise",
    ).fit(X, y, groups=y)
    assert 0.5 < search.best_score_ <= 1
