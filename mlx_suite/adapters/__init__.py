"""Adapters: LoRA and DoRA layers, attaching them to a model, and the file layouts of mlx-lm and PEFT."""
