"""Training on rows of tokens: losses, schedules, optimizer steps, the loop, checkpoints."""
