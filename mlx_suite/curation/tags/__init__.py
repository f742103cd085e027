"""What a model says about a row: labels, scores, and how far they can be trusted."""
