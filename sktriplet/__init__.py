"""scikit-learn compatible deep metric learning with triplet losses."""

from sktriplet._embedder import TripletEmbedder
from sktriplet.recognition import OpenSetClassifier, PairVerifier

__all__ = ["OpenSetClassifier", "PairVerifier", "TripletEmbedder"]
__version__ = "0.1.0"
