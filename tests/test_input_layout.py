import numpy as np
import pytest

from sktriplet import TripletEmbedder
from sktriplet._input_layout import ImageLayout, TableLayout
from sktriplet._training_data import validate_training_data


class TestImageLayout:
    @pytest.mark.parametrize(
        ("array_shape", "expected"),
        [
            ((9, 28, 30), (1, 28, 30)),
            ((9, 3, 30), (1, 3, 30)),
            ((9, 1, 28, 30), (1, 28, 30)),
            ((9, 28, 30, 3), (3, 28, 30)),
            ((9, 4, 28, 30), (4, 28, 30)),
        ],
    )
    def test_infer(self, array_shape, expected):
        layout = ImageLayout.from_array(np.zeros(array_shape), None)
        assert layout.shape == expected
        assert array_shape[1:] in layout.accepted_shapes

    @pytest.mark.parametrize("array_shape", [(9, 3, 28, 3), (9, 8, 8, 8), (9, 1, 2, 3, 4), (9, 5)])
    def test_infer_ambiguous(self, array_shape):
        with pytest.raises(ValueError, match=r"X .*\(9, "):
            ImageLayout.from_array(np.zeros(array_shape), None)

    @pytest.mark.parametrize(
        ("array_shape", "input_shape"),
        [
            ((9, 2, 28, 30), (2, 28, 30)),
            ((9, 28, 30, 2), (2, 28, 30)),
            ((9, 3, 28, 3), (3, 3, 28)),
            ((9, 1680), [2, 28, 30]),
            ((9, 28, 30), (1, 28, 30)),
        ],
    )
    def test_input_shape(self, array_shape, input_shape):
        embedder = TripletEmbedder(input_shape=input_shape)
        data = validate_training_data(embedder, np.zeros(array_shape), np.arange(9) % 2)
        assert data.preprocessor.shape == tuple(input_shape)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_to_rows(self, dtype):
        """In all layouts, a row has the channels of one pixel."""
        images = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)
        images.flags.writeable = False
        layout, expected = ImageLayout((3, 4, 5)), images.transpose(0, 2, 3, 1).reshape(-1, 3)
        for X in (images, images.transpose(0, 2, 3, 1), images.reshape(2, -1)):
            assert np.array_equal(layout.to_rows(X), expected)

    def test_statistics_shape(self):
        assert ImageLayout((3, 4, 5)).statistics_shape == (-1, 1, 1)
        assert TableLayout((7,)).statistics_shape == (-1,)
