import torch

from sktriplet.networks._precision import in_full_precision


def test_without_autocast():
    layer, X = torch.nn.Linear(4, 3).double(), torch.randn(9, 4, dtype=torch.float64)
    assert torch.equal(in_full_precision(layer, X), layer(X))


def test_autocast():
    layer, X = torch.nn.Linear(4, 3), torch.randn(9, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(X).dtype == torch.bfloat16
        output = in_full_precision(layer, X)
        assert in_full_precision(layer, X.bfloat16()).dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(output, layer(X))
