"""Pretraining: a new model from a size or a config, or a checkpoint continued on a corpus."""
