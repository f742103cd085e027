"""Preference pairs: several answers, the best and the worst, with a margin."""
