"""Measuring what a model knows."""

from mlx_suite.evaluate.answers import Accuracy, answer_all, measure_accuracy

__all__ = ["Accuracy", "answer_all", "measure_accuracy"]
