"""Finding models: shipped checkpoints, local folders, the hub cache and downloads."""
