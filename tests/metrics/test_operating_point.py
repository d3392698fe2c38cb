import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning

from sktriplet import PairVerifier
from sktriplet.metrics import detection_identification_rate_score
from sktriplet.metrics._operating_point import (
    check_rate_is_measurable,
    max_count_at_rate,
    threshold_at_fpr,
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
    assert threshold_at_fpr(distances, 0.05) == 0.25


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
