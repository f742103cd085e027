"""Programs to run, thin layers over mlx_suite."""
