"""Read examples from files, folders and the hub, and report every problem by file and line."""
