"""Filtering datasets: conditions, presets, duplicates, quotas and samples."""
