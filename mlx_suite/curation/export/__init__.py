"""Datasets as other programs read them, with a card and checksums."""
