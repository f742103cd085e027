"""Tokens of the chat template that the base model was never trained on, and the rows that are trained for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_suite.adapters.tied import EMBEDDING, HEAD
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.untrained_tokens import UntrainedToken, untrained_tokens
from mlx_suite.data.batch.rows import Document
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.modeling.head import embedding_matrix
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Tokenizer, derive_pre_query


@dataclass(frozen=True, kw_only=True)
class TemplateTokens:
    """The special tokens that a run's template writes, and which of them the model does not know."""

    ids: tuple[int, ...] = ()
    """In ascending order, without BOS."""
    stop: int | None = None
    """The token that ends a response."""
    untrained: tuple[UntrainedToken, ...] = ()
    names: tuple[str, ...] = ()
    """Of the tokens in `untrained`."""
    continued: tuple[int, ...] | None = None
    """Tokens whose rows the adapter trains that the run starts from; None for a new adapter."""

    @property
    def lacks_stop(self) -> bool:
        """Whether the model was never trained on the token that ends a response."""
        return any(token.id == self.stop for token in self.untrained)

    def trained_rows(self, settings: FinetuneSettings) -> tuple[int, ...]:
        """Tokens whose rows a run trains beside its adapter."""
        if self.continued is not None:
            return self.continued
        adapts_table = {EMBEDDING, HEAD} & set(settings.modules)
        if settings.method == "full" or adapts_table or settings.train_new_tokens is False:
            return ()
        if settings.train_new_tokens is None and not self.lacks_stop:
            return ()
        return tuple(token.id for token in self.untrained)

    def notes(self, settings: FinetuneSettings) -> list[str]:
        """What the user should know before training: the untrained tokens, each with its figure."""
        if not self.untrained:
            asked = settings.train_new_tokens is True
            return ["all tokens of the chat template are trained: no row is added"] if asked else []
        rows = self.trained_rows(settings)
        if settings.method == "full" or {EMBEDDING, HEAD} & set(settings.modules):
            act = "this run trains the whole embedding"
        elif rows and self.continued is None:
            act = f"{len(rows)} row{'s' * (len(rows) > 1)} of the embedding are trained for them"
        elif self.continued is not None:
            act = "the adapter to start from trains no rows for them"
        else:
            act = "responses will hardly end by themselves" if self.lacks_stop else "the model hardly tells them apart"
            act += "; --train-new-tokens trains their rows"
        named = [f"{name} ({token.evidence})" for name, token in zip(self.names, self.untrained, strict=True)]
        return [f"never trained in this model: {', '.join(named)}; {act}"]


def template_tokens(
    folder: Path,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    documents: Sequence[Document],
    continued: tuple[int, ...] | None = None,
) -> TemplateTokens:
    """Look at the embedding rows of the special tokens in documents that a chat template wrote.

    Only the embedding is read from the weights; a folder without weights says nothing about it. `continued`: tokens
    that have trained rows in the adapter that the run starts from.
    """
    if template is None:
        return TemplateTokens(continued=continued)
    written = {token for document in documents for token in document.tokens} & tokenizer.special_ids
    ids = tuple(sorted(written - {tokenizer.bos_id}))
    if not ids or not any(folder.glob("*.safetensors")):
        return TemplateTokens(ids=ids, continued=continued)
    matrix = embedding_matrix(load_model(folder, lazy=True))
    if matrix is None:
        return TemplateTokens(ids=ids, continued=continued)
    found = untrained_tokens(matrix, tokenizer.nameless_ids(matrix.weight.shape[0]), ids)
    # Those with rows of their own are trained already; the others are told.
    found = [token for token in found if token.id not in (continued or ())]
    names = (tokenizer.token_of(token.id) or str(token.id) for token in found)
    return TemplateTokens(
        ids=ids, stop=_stop(tokenizer, template), untrained=tuple(found), names=tuple(names), continued=continued
    )


def _stop(tokenizer: Tokenizer, template: ChatTemplate) -> int | None:
    try:
        return derive_pre_query(tokenizer, template).assistant_stop_ids[0]
    except UserError:
        return tokenizer.eos_id
