"""The small tokenizers and the stock templates of tests/text, for tests of what is written with them."""

from tests.text.conftest import byte_folder, family, gemma2_folder, llama3_folder

__all__ = ["byte_folder", "family", "gemma2_folder", "llama3_folder"]
