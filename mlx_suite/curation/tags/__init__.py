"""Tags, scores and their calibration: what a model says about a row, and how far that can be trusted."""
