"""Recipes and scripts for finetuning."""
