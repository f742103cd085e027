"""Training on rows of tokens: loss, schedule, optimizer step, loop, checkpoints."""
