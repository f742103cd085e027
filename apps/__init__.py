"""What a person starts: thin programs over mlx_suite."""
