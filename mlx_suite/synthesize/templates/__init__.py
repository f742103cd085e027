"""Wordings of instruction-response pairs and of what stands around them in a pretraining text, as data.

A wording is a format string that holds each of its slots exactly once. Nothing in it says whether the text comes
before or after, except in `frames`, where that is known.
"""
