"""Rows that are like others: the same text, the same words, the same meaning, or evaluation data."""
