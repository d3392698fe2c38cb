"""Verification and identification of classes that were not seen in training.

Both estimators compare distances between embeddings with a threshold that is set by cross-fitting.
"""

from sktriplet.recognition._open_set_classifier import OpenSetClassifier
from sktriplet.recognition._pair_verifier import PairVerifier
from sktriplet.recognition._pairs import Pairs

__all__ = ["OpenSetClassifier", "PairVerifier", "Pairs"]
