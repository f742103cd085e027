"""What one model takes from others: distillation and merging."""
