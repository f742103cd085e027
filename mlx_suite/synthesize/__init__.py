"""Instruction Pre-Training (arXiv 2406.14491): instruction-response pairs written from the texts of a corpus."""
