"""Preference pairs: the best and the worst of several responses to each instruction, if they differ by a margin."""
