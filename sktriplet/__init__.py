"""Metric learning in scikit-learn's form: embeddings whose nearest neighbours are right."""

from sktriplet.embedder import TripletEmbedder

__all__ = ["TripletEmbedder"]
__version__ = "0.1.0"
