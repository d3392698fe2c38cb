import copy
import tracemalloc

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from sktriplet._input_layout import ImageLayout, TableLayout
from sktriplet._input_statistics import ValueRange, partial_fit_scaler, to_single_precision
from sktriplet.networks._embedding_network import ChannelsFirst


class TestPartialFitScaler:
    def test_table(self):
        X = np.random.default_rng(0).normal(50, 7, (1_200_001, 2)).astype(np.float32)
        scaler = None
        for part in (X[:70_000], X[70_000:]):
            scaler = partial_fit_scaler(scaler, part, TableLayout((2,)))
        expected = StandardScaler().fit(X)
        assert_allclose(scaler.mean_, expected.mean_, rtol=1e-9)
        assert_allclose(scaler.scale_, expected.scale_, rtol=1e-6)
        assert scaler.n_samples_seen_ == 1_200_001

    @pytest.mark.parametrize("first_is_sparse", [True, False])
    @pytest.mark.parametrize("second_is_sparse", [True, False])
    def test_sparse_table(self, first_is_sparse, second_is_sparse):
        """The statistics are as exact as those of a dense table."""
        rng = np.random.default_rng(0)
        X = rng.random((300, 7)) * (rng.random((300, 7)) < 0.3)
        X = np.c_[X, 1e5 + rng.random(300), np.zeros(300), np.ones(300)].astype(np.float32)
        dense = ours = None
        for part, is_sparse in zip(
            np.split(X, 2), (first_is_sparse, second_is_sparse), strict=True
        ):
            given = ours
            before = copy.deepcopy(given)
            samples = sparse.csr_matrix(part) if is_sparse else part
            ours = partial_fit_scaler(given, samples, TableLayout((10,)))
            dense = partial_fit_scaler(dense, part, TableLayout((10,)))
            if given is not None:
                assert_allclose(given.mean_, before.mean_, rtol=0, err_msg="is not changed")
        assert_allclose(ours.mean_, X.mean(axis=0, dtype=float), rtol=1e-13)
        assert_allclose(ours.mean_, dense.mean_, rtol=1e-13)
        assert_allclose(ours.scale_, dense.scale_, rtol=1e-9)
        assert_allclose(ours.scale_[-2:], 1)
        assert ours.n_samples_seen_ == 300

    def test_wide_sparse_table_stays_sparse(self):
        """Dense, it would take 200 MB."""
        rng = np.random.default_rng(0)
        X = sparse.random_array((5_000, 10_000), density=1e-3, format="csr", dtype="f", rng=rng)
        tracemalloc.start()
        partial_fit_scaler(None, X, TableLayout((10_000,)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10e6

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("shape", [(20, 3, 8, 9), (20, 8, 9, 3), (20, 216)])
    def test_images(self, shape, dtype):
        """The statistics are those of the channels."""
        images = np.random.default_rng(0).integers(255, size=shape).astype(dtype)
        layout = ImageLayout((3, 8, 9))
        scaler = partial_fit_scaler(None, images, layout)
        channels = ChannelsFirst((3, 8, 9))(torch.from_numpy(images)).double()
        assert_allclose(scaler.mean_, channels.mean(dim=(0, 2, 3)), rtol=1e-6)
        deviations = channels.std(dim=(0, 2, 3), correction=0)
        assert_allclose(scaler.scale_, deviations, rtol=1e-6)


class TestToSinglePrecision:
    def test_float32_and_uint8_are_not_copied(self):
        for dtype in (np.float32, np.uint8):
            X = np.ones((3, 2), dtype)
            assert to_single_precision(X) is X

    def test_offset_is_subtracted_in_double_precision(self):
        """In chunks, and without changing X."""
        rng = np.random.default_rng(0)
        offset = np.array([1e9, 0.0])
        X = rng.normal(size=(600_000, 2)) + offset
        before = X[:10].copy()
        converted = to_single_precision(X, offset)
        assert converted.dtype == np.float32
        assert_allclose(converted, X - offset, rtol=1e-6)
        assert_array_equal(X[:10], before)


@pytest.mark.parametrize(
    ("values", "others", "expected"),
    [
        ([0.0, 0.5], [0, 255], True),
        ([-2.5, 2.5], [0, 255], True),
        ([0.0, 0.5], [0.0, 0.25], False),
        ([0, 255], [0, 200], False),
        ([0.5, 100.0], [0, 255], False),
        ([0.0, 0.5], [0, 1], False),
    ],
)
def test_value_range(values, others, expected):
    ranges = [ValueRange.of(np.array(item)[:, None]) for item in (values, others)]
    assert ranges[0].has_other_unit(ranges[1]) == expected
    assert ranges[1].has_other_unit(ranges[0]) == expected


def test_value_range_as_text():
    assert str(ValueRange.of(np.array([[0, 255]]))) == "whole numbers from 0 to 255"
