import pytest
import torch

from sktriplet.exceptions import InvalidParameterError
from sktriplet.training._device import ACCELERATORS, has_fused_adam, resolve_device


def test_resolve_device():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("available", "expected"),
    [(["cuda", "mps"], "cuda"), (["mps"], "mps"), ([], "cpu")],
    ids=str,
)
def test_resolve_device_auto(available, expected, monkeypatch):
    for name, accelerator in ACCELERATORS.items():
        is_available = name in available
        replaced = accelerator._replace(is_available=lambda value=is_available: value)
        monkeypatch.setitem(ACCELERATORS, name, replaced)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", 3])
def test_resolve_device_invalid(device):
    with pytest.raises(InvalidParameterError, match=f"'device' parameter.*{device}"):
        resolve_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_resolve_device_unavailable():
    with pytest.raises(InvalidParameterError, match=r"'device' parameter.*'cuda'"):
        resolve_device("cuda")


def test_has_fused_adam():
    assert has_fused_adam("cpu")
    assert has_fused_adam("cuda:1")
    assert not has_fused_adam("meta")
