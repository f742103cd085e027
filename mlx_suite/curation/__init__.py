"""Curate any instruction dataset: tag, filter, remove near-duplicates and test data, report on it, export it."""
