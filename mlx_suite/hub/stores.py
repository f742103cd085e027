"""Models that Ollama and LM Studio downloaded, usable without a second download: `ollama:NAME`, `lmstudio:NAME`."""

from mlx_suite.hub import lmstudio_store, ollama_store
from mlx_suite.hub.stored_model import StoredModel

__all__ = ["StoredModel", "find_in_store", "stored_models", "verify_blob"]

verify_blob = ollama_store.verify_blob


def stored_models() -> list[StoredModel]:
    """Return the models in both stores; those that cannot be used say why in `problem`."""
    return [*ollama_store.ollama_models(), *lmstudio_store.lmstudio_models()]


def find_in_store(name: str) -> StoredModel | None:
    """Return the model called `ollama:NAME[:TAG]` or `lmstudio:PUBLISHER/REPO[/FILE]`; None for any other name.

    Raises UserError for a name that the store does not hold, with close ones, for a name that fits several files, and
    for a model of which something is missing or unfinished.
    """
    text = name.strip()
    if text.startswith(ollama_store.PREFIX):
        return ollama_store.find_ollama(text.removeprefix(ollama_store.PREFIX))
    if text.startswith(lmstudio_store.PREFIX):
        return lmstudio_store.find_lmstudio(text.removeprefix(lmstudio_store.PREFIX))
    return None
