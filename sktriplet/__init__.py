"""Metric learning in scikit-learn's form: embeddings whose nearest neighbours are right."""

from sktriplet.embedder import TripletEmbedder
from sktriplet.identification import OpenSetClassifier
from sktriplet.verification import PairVerifier

__all__ = ["OpenSetClassifier", "PairVerifier", "TripletEmbedder"]
__version__ = "0.1.0"
