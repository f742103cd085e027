"""Predict the memory and time of a run before its first step, and name the changes that would make it fit."""
