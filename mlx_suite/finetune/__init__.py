"""Finetuning: from a file of examples to an adapter or a full model."""
