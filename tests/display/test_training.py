from types import SimpleNamespace

import numpy as np
import pytest

from sktriplet.display import TrainingDisplay

HISTORY = [
    {"epoch": 1, "train_loss": 0.5, "triplet_fraction": 0.9, "active_fraction": 1.0, "dur": 1.0},
    {"epoch": 2, "train_loss": 0.2, "triplet_fraction": 0.4, "active_fraction": 0.9, "dur": 1.0},
    {"epoch": 3, "train_loss": 0.1, "triplet_fraction": 0.2, "active_fraction": 0.8, "dur": 1.0},
]


def with_scores(scores):
    return [
        epoch | {"validation_score": score} for epoch, score in zip(HISTORY, scores, strict=True)
    ]


def y_data(panel):
    return [line.get_ydata().tolist() for line in panel.lines]


def test_training_curves(legend_texts):
    loss, fraction = TrainingDisplay.from_predictions(HISTORY).ax_
    assert loss.lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.2], [3, 0.1]]
    assert y_data(fraction) == [[0.9, 0.4, 0.2], [1, 0.9, 0.8]]
    assert [loss.get_ylabel(), fraction.get_ylabel()] == ["loss", "fraction"]
    assert legend_texts(fraction) == ["pairs with a triplet", "nonzero loss"]
    assert loss.get_legend() is None
    assert fraction.get_xlabel() == "epoch"


@pytest.mark.parametrize(
    ("triplet_fraction", "active_fraction", "expected"),
    [
        ([0.9, 0.4, 0.2], [1.0, 1.0, 1.0], [0.9, 0.4, 0.2]),
        ([0.9, 0.4, 0.0], [1.0, 1.0, np.nan], [0.9, 0.4, 0.0]),
        ([1.0, 1.0, 1.0], [0.9, 0.4, 0.2], [0.9, 0.4, 0.2]),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
    ],
)
def test_training_constant_fraction(triplet_fraction, active_fraction, expected):
    history = [
        {"triplet_fraction": triplet, "active_fraction": active}
        for triplet, active in zip(triplet_fraction, active_fraction, strict=True)
    ]
    (panel,) = TrainingDisplay.from_predictions(history).ax_
    assert y_data(panel) == [expected]


def test_training_best_epoch(legend_texts):
    estimator = SimpleNamespace(history_=with_scores([0.7, 0.9, 0.8]))
    *_, panel = TrainingDisplay.from_estimator(estimator).ax_
    curve, best = panel.lines
    assert curve.get_ydata().tolist() == [0.7, 0.9, 0.8]
    assert best.get_xydata().tolist() == [[2, 0.9]]
    assert legend_texts(panel) == ["best epoch"]


def test_training_embedder(make_embedder, iris):
    embedder = make_embedder(early_stopping=True, max_epochs=3).fit(*iris)
    axes = TrainingDisplay.from_estimator(embedder).ax_
    assert [panel.get_ylabel() for panel in axes] == ["loss", "fraction", "validation score"]
    assert y_data(axes[-1]) == [embedder.validation_scores_, [embedder.best_validation_score_]]


def test_training_missing_values():
    """Epochs without a value leave a gap, and curves without any value are omitted."""
    history = [epoch | {"triplet_fraction": np.nan} for epoch in HISTORY]
    history[2]["validation_score"] = 0.4
    loss, fraction, score = TrainingDisplay.from_predictions(history).ax_
    assert len(loss.lines) == 1
    assert y_data(fraction) == [[1, 0.9, 0.8]]
    assert np.isnan(score.lines[0].get_ydata()).tolist() == [True, True, False]
    assert score.lines[1].get_xydata().tolist() == [[3, 0.4]]


@pytest.mark.parametrize(
    ("history", "got"), [([], "no epochs"), ([{"dur": 1.0}], r"\['dur'\]")], ids=["empty", "dur"]
)
def test_training_no_curves(history, got):
    with pytest.raises(ValueError, match=f"^history must .*train_loss.* Got {got}"):
        TrainingDisplay.from_predictions(history)
