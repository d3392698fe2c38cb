"""Plots of embeddings, training, nearest neighbors and distances, as scikit-learn displays."""

from sktriplet.display._distances import DistanceDisplay
from sktriplet.display._embedding import EmbeddingDisplay
from sktriplet.display._neighbors import NeighborsDisplay
from sktriplet.display._training import TrainingDisplay

__all__ = ["DistanceDisplay", "EmbeddingDisplay", "NeighborsDisplay", "TrainingDisplay"]
