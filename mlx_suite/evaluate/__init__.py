"""Evaluation: judges, perplexity, the lm-evaluation-harness, and accuracy on the microworld."""

from mlx_suite.evaluate.microworld import Accuracy, answer_all, measure_accuracy

__all__ = ["Accuracy", "answer_all", "measure_accuracy"]
