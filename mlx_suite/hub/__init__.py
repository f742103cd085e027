"""Where models come from: shipped checkpoints, local folders, the hub's cache, and downloads."""
