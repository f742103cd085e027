"""Merging: one model from the weights of several, a block of rows at a time."""
