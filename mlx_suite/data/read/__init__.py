"""Read examples from files, folders and the hub; every problem is reported with its file and line."""
