"""Learning from rows of tokens: loss, schedule, loop, checkpoints."""
