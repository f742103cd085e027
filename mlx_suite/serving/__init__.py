"""Serving: requests of many clients, answered by one thread that owns MLX."""
