"""TODO."""

from sktriplet.metrics._operating_point import detection_identification_rate_score
from sktriplet.metrics._retrieval import (
    mean_average_precision_at_r_score,
    mean_average_precision_at_r_scorer,
    r_precision_score,
    r_precision_scorer,
    recall_at_k_score,
    recall_at_k_scorer,
)

__all__ = [
    "detection_identification_rate_score",
    "mean_average_precision_at_r_score",
    "mean_average_precision_at_r_scorer",
    "r_precision_score",
    "r_precision_scorer",
    "recall_at_k_score",
    "recall_at_k_scorer",
]
