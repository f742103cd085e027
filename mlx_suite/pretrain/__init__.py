"""Pretraining from scratch: so far, the recipes of the shipped checkpoints."""

from mlx_suite.pretrain.recipe import RECIPES, Phase, Recipe

__all__ = ["RECIPES", "Phase", "Recipe"]
