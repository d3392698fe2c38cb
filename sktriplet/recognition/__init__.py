"""TODO."""

from sktriplet.recognition._open_set_classifier import OpenSetClassifier
from sktriplet.recognition._pair_verifier import PairVerifier

__all__ = ["OpenSetClassifier", "PairVerifier"]
