"""Encoders made of what other libraries train: classifiers with `predict_proba`, and torch modules."""

from __future__ import annotations

from blemore_harness.estimators.classifier import SklearnEncoder
from blemore_harness.estimators.network import TorchEncoder

__all__ = ["SklearnEncoder", "TorchEncoder"]
