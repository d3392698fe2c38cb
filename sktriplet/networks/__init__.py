"""Networks that map samples to embeddings.

`MLP` and `MLPEnsemble` are for tables, `ConvNet` is for images, `ConvNet1d` for sequences.
`Whitening` maps the embeddings of a trained network.
"""

from sktriplet.networks._convnet import ConvNet
from sktriplet.networks._convnet1d import ConvNet1d
from sktriplet.networks._mlp import MLP
from sktriplet.networks._mlp_ensemble import MLPEnsemble
from sktriplet.networks._whitening import Whitening

__all__ = ["MLP", "ConvNet", "ConvNet1d", "MLPEnsemble", "Whitening"]
