"""Plots of embeddings, distances, training, and verification, as scikit-learn displays."""

from sktriplet.display._cumulative_match import CumulativeMatchDisplay
from sktriplet.display._distance_contributions import DistanceContributionsDisplay
from sktriplet.display._distances import DistanceDisplay
from sktriplet.display._embedding import EmbeddingDisplay
from sktriplet.display._neighbors import NeighborsDisplay
from sktriplet.display._training import TrainingDisplay
from sktriplet.display._verification import VerificationDisplay

__all__ = [
    "CumulativeMatchDisplay",
    "DistanceContributionsDisplay",
    "DistanceDisplay",
    "EmbeddingDisplay",
    "NeighborsDisplay",
    "TrainingDisplay",
    "VerificationDisplay",
]
