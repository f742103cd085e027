"""Datasets of instructions as all stages read them."""
