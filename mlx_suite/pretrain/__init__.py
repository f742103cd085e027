"""Pretraining from scratch: the training plans of the shipped checkpoints."""

from mlx_suite.pretrain.plans import PLANS, Phase, TrainingPlan

__all__ = ["PLANS", "Phase", "TrainingPlan"]
