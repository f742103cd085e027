"""Our code beside others', both sides in one run: generation, the head, finetuning."""
