"""Finetuning in recipes and scripts."""
