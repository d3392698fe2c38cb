import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning

from sktriplet import PairVerifier
from sktriplet.exceptions import InvalidParameterError
from sktriplet.metrics import detection_identification_rate_score
from sktriplet.metrics._operating_point import (
    check_rate_is_measurable,
    max_count_at_rate,
    threshold_at_fpr,
    threshold_by_strategy,
    validate_strategy,
)


@pytest.mark.parametrize("n", [7, 100, 12_345])
def test_max_count_at_rate_ignores_rounding_errors(n):
    assert [max_count_at_rate(count / n, n) for count in range(n)] == list(range(n))


@pytest.mark.parametrize(
    ("rate", "n", "count"), [(0.0, 5, 0), (0.19, 5, 0), (0.2, 5, 1), (0.39, 5, 1), (0.99, 5, 4)]
)
def test_max_count_at_rate_rounds_down(rate, n, count):
    assert max_count_at_rate(rate, n) == count


@given(
    distances=st.lists(st.integers(0, 8), min_size=1, max_size=20),
    rate=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]),
)
def test_threshold_at_fpr_accepts_as_many_as_possible(distances, rate):
    distances = np.array(distances, dtype=np.float32)
    rates = [np.mean(distances <= threshold) for threshold in np.arange(0, 9, 0.5)]
    permitted = [fpr for fpr in rates if fpr <= rate]
    if permitted:
        assert np.mean(distances <= threshold_at_fpr(distances, rate)) == max(permitted)
    else:
        with pytest.raises(ValueError, match=f"No threshold .* at most {rate}:"):
            threshold_at_fpr(distances, rate)


def test_threshold_at_fpr_ignores_rounding_errors():
    distances = np.arange(1, 101.0)
    for count in range(1, 100):
        assert np.sum(distances <= threshold_at_fpr(distances, count / 100)) == count


def test_threshold_at_fpr_between_adjacent_single_precision_numbers():
    distances = np.float32([1 + 2**-23, 1 + 2**-22])
    assert np.sum(distances.astype(float) <= threshold_at_fpr(distances, 0.5)) == 1


def test_threshold_at_fpr_below_tied_distances():
    distances = np.r_[[0.5] * 3, np.linspace(1, 2, 37)]
    assert 0.49999 < threshold_at_fpr(distances, 0.05) < 0.5


def test_threshold_at_fpr_of_rounded_distances(rng):
    """It is set on rounded distances, and decides on exact ones."""
    distances = rng.random(1000)
    for rate in (0.1, 0.3, 0.7):
        assert np.sum(distances <= threshold_at_fpr(distances, rate)) == 1000 * rate


def draw_distances(seed):
    """Draw distances of positive and negative pairs, with or without ties."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, size=2)
    if seed % 2:
        parts = [rng.integers(rng.integers(2), 6, size=size) for size in sizes]
    else:
        parts = [rng.gamma(4 + shift, size=size) for shift, size in enumerate(sizes)]
    return [part.astype(np.float32) for part in parts]


def rates_of_all_thresholds(positive, negative):
    """Return the true and false positive rates of thresholds around all distances."""
    distances = np.unique(np.r_[positive, negative].astype(float))
    thresholds = np.r_[distances[0] - 1, distances]
    return [(part <= thresholds[:, None]).mean(axis=1) for part in (positive, negative)]


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.5])
def test_threshold_at_fpr_is_best(rate):
    """No threshold that the rate permits has a larger true positive rate."""
    for seed in range(1000):
        positive, negative = draw_distances(seed)
        tpr, fpr = rates_of_all_thresholds(positive, negative)
        try:
            threshold = threshold_at_fpr(negative, rate)
        except ValueError:
            assert np.mean(negative == 0) > rate
        else:
            assert np.mean(negative <= threshold) <= rate
            assert np.mean(positive <= threshold) == tpr[fpr <= rate].max()


@pytest.mark.parametrize(
    ("strategy", "min_rate", "beta"),
    [
        ("balanced_accuracy", None, None),
        ("accuracy", None, None),
        ("f_beta", None, None),
        ("f_beta", None, 0.3),
        ("f_beta", None, 2.0),
        *(("max_tpr", rate, None) for rate in (0, 0.3, 0.9, 1)),
        *(("max_tnr", rate, None) for rate in (0, 0.3, 0.9, 1)),
    ],
)
def test_strategies_are_best(strategy, min_rate, beta):
    for seed in range(1000):
        positive, negative = draw_distances(seed)
        n_pairs = len(positive), len(negative)

        def score(tpr, fpr, n_pairs=n_pairs):
            n_positive, n_negative = n_pairs
            tp, fp = tpr * n_positive, fpr * n_negative
            squared = (beta or 1) ** 2
            return {
                "balanced_accuracy": (tpr + 1 - fpr) / 2,
                "accuracy": (tp + n_negative - fp) / (n_positive + n_negative),
                "f_beta": (1 + squared)
                * tp
                / ((1 + squared) * tp + squared * (n_positive - tp) + fp),
                "max_tpr": np.where(1 - fpr >= (min_rate or 0) - 1e-9, tpr, -1),
                "max_tnr": np.where(tpr >= (min_rate or 0) - 1e-9, 1 - fpr, -1),
            }[strategy]

        best = np.max(score(*rates_of_all_thresholds(positive, negative)))
        try:
            threshold = threshold_by_strategy(positive, negative, strategy, min_rate, beta)
        except ValueError:
            assert strategy == "max_tpr"
            assert np.mean(negative == 0) > 1 - min_rate
        else:
            assert np.isfinite(threshold)
            found = score(np.mean(positive <= threshold), np.mean(negative <= threshold))
            assert found == pytest.approx(best)


def test_thresholds_keep_their_distance_from_pairs():
    positive, negative = np.float32([1, 2, 4]), np.float32([3, 5, 6])
    for strategy, expected in [("balanced_accuracy", 2.5), ("accuracy", 2.5)]:
        assert threshold_by_strategy(positive, negative, strategy) == expected
    assert threshold_by_strategy(positive, negative, "max_tnr", 1.0) == 4.5
    assert threshold_by_strategy(positive, negative, "max_tnr", 0.5) == 2.5
    assert threshold_by_strategy(positive, negative, "max_tnr", 0.0) == 0.5
    assert threshold_by_strategy(positive, negative, "max_tpr", 0.6) == pytest.approx(5)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        (("recall", None, None), "'strategy'"),
        (("max_tpr", None, None), "'min_rate' .*required"),
        (("max_tnr", 1.5, None), "'min_rate'"),
        (("accuracy", 0.5, None), "'min_rate' .*only"),
        ((None, 0.5, None), "'min_rate' .*only"),
        (("accuracy", None, 1.0), "'beta' .*only"),
        (("f_beta", None, 0), "'beta'"),
    ],
)
def test_invalid_strategies(parameters, match):
    with pytest.raises(InvalidParameterError, match=match):
        validate_strategy(*parameters)


@pytest.mark.parametrize("rate", [1 / 49, 0.05, 0.1, 0.29, 0.3, 0.5])
@pytest.mark.parametrize("samples_per_trial", [1, 2])
def test_check_rate_is_measurable(rate, samples_per_trial):
    """The number of samples in the message is the smallest that passes."""

    def check(n_samples):
        check_rate_is_measurable(
            "target_fpr", rate, n_samples, PairVerifier(), samples_per_trial=samples_per_trial
        )

    with pytest.raises(
        ValueError, match=rf"'target_fpr'.* PairVerifier .* 0 .* Got {rate}"
    ) as error:
        check(0)
    needed = int(str(error.value).split()[-2])
    check(needed)
    with pytest.raises(ValueError, match=rf"on {needed - 1} held-out samples.* {needed} samples"):
        check(needed - 1)


samples = st.lists(
    st.tuples(st.sampled_from("abxy"), st.sampled_from("ab"), st.integers(0, 5)),
    min_size=2,
    max_size=30,
).filter(lambda samples: len({label in "ab" for label, *_ in samples}) == 2)


@given(samples=samples, target=st.sampled_from([0, 0.1, 0.25, 0.5, 0.9]))
def test_detection_identification_rate_at_best_threshold(samples, target):
    """The score is that of the best of all thresholds that accept few enough impostors."""
    y, identities, distances = map(np.array, zip(*samples, strict=True))
    is_impostor = np.isin(y, ["x", "y"])
    rates = [
        np.mean((identities == y)[~is_impostor] & (distances[~is_impostor] <= threshold))
        for threshold in np.arange(-0.5, 6, 0.5)
        if np.mean(distances[is_impostor] <= threshold) <= target
    ]
    score = detection_identification_rate_score(
        y, identities, distances, enrolled=["a", "b"], target_fpir=target
    )
    assert score == pytest.approx(max(rates))


def test_detection_identification_rate_ignores_rounding_errors():
    y = np.r_[np.zeros(100), np.ones(100)]
    distances = np.r_[np.arange(100.0) + 0.5, np.arange(100.0) + 1]
    # 29 of 100 impostors are nearer than 30, and so are 30 of the enrolled samples.
    score = detection_identification_rate_score(
        y, np.zeros(200), distances, enrolled=[0], target_fpir=0.29
    )
    assert score == 0.3


def test_detection_identification_rate_by_default():
    """One of 20 impostors may be identified."""
    y, distances = np.repeat([0, 1], 20), np.tile(np.arange(20.0), 2)
    score = detection_identification_rate_score(y, np.zeros(40), distances, enrolled=[0])
    assert score == 1 / 20


def test_detection_identification_rate_of_different_lengths():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        detection_identification_rate_score(["a", "x"], ["a", "a"], [1.0], enrolled=["a"])


@pytest.mark.parametrize(("y", "reason"), [("aa", "no samples are"), ("xx", "all samples are")])
def test_detection_identification_rate_undefined(y, reason):
    message = f"detection and identification rate is undefined .* {reason} impostors"
    with pytest.warns(UndefinedMetricWarning, match=message) as caught:
        rate = detection_identification_rate_score(list(y), ["a", "b"], [1, 2], enrolled=["a", "b"])
    assert np.isnan(rate)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("y", "distances", "match"),
    [
        ([1.0, 2.0, np.nan], [0.1, 0.2, 0.3], "^y .*nan"),
        ([1, 2, None], [0.1, 0.2, 0.3], "^y .*None"),
        ([1, 2, 3], [0.1, np.nan, 0.3], "distances contains NaN"),
        (["1", "2", "3"], [0.1, 0.2, 0.3], "comparable types"),
    ],
)
def test_dir_missing_or_other_types(y, distances, match):
    with pytest.raises(ValueError, match=match):
        detection_identification_rate_score(y, [1, 1, 1], distances, enrolled=[1, 2])
