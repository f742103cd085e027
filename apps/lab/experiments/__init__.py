"""Measured experiments, one file each: `mlx-suite lab NAME`."""
