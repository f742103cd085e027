"""Configurations of pretraining runs."""
