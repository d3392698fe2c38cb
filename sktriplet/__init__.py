"""scikit-learn compatible deep metric learning with triplet losses."""

from sktriplet._comparison_embedder import ComparisonEmbedder
from sktriplet._embedder import TripletEmbedder
from sktriplet.recognition import OpenSetClassifier, Pairs, PairVerifier

__all__ = [
    "ComparisonEmbedder",
    "OpenSetClassifier",
    "PairVerifier",
    "Pairs",
    "TripletEmbedder",
]
__version__ = "0.1.0rc1"
