"""Filter datasets by conditions, presets, duplicates, quotas and samples."""
