"""How the shipped checkpoints were made, and what they can do: `python -m mlx_suite_apps.shipped --help`."""
