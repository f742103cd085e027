"""Training and measurement of the shipped checkpoints: `python -m mlx_suite_apps.shipped --help`."""
