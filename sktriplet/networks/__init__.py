"""TODO."""

from sktriplet.networks._convnet import ConvNet
from sktriplet.networks._mlp import MLP
from sktriplet.networks._mlp_ensemble import MLPEnsemble

__all__ = ["ConvNet", "MLP", "MLPEnsemble"]
