"""Preference pairs: several responses to each instruction, the best and the worst of which are kept with a margin."""
