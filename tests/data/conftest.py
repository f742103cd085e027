"""Fixtures of tests/text: small tokenizers and the families' own chat templates."""

from tests.text.conftest import byte_folder, family, gemma2_folder, llama3_folder

__all__ = ["byte_folder", "family", "gemma2_folder", "llama3_folder"]
