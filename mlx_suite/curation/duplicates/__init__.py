"""Duplicates: by words, by embeddings, and against evaluation data."""
