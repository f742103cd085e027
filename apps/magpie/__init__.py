"""Experiments on Magpie data: `python -m mlx_suite_apps.magpie.worth`."""
