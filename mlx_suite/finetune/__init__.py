"""Finetuning: from a file of examples to a model that answers."""
