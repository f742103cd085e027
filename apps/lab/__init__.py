"""Experiments on Magpie data: `python -m mlx_suite_apps.lab.filter_ablation`."""
