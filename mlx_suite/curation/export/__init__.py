"""Export datasets for other programs, with a card and checksums."""
