"""A checkpoint's tokenizer as GGUF metadata: tokens with their types, merges or scores, special ids.

llama.cpp knows two kinds that matter here: `gpt2`, byte-level BPE with a list of merges (Llama 3), and `llama`,
SentencePiece's BPE, which merges the pair whose result has the best score (Gemma, Mistral, Llama 2).

Source: gguf-py's constants and llama.cpp's `src/llama-vocab.cpp`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlx_suite.export.gguf_pretokenizer import pretokenizer_name
from mlx_suite.runtime.errors import UserError
from mlx_suite.text.settings import read_json, read_settings
from mlx_suite.text.template import TEMPLATE_FILE
from mlx_suite.text.token_bytes import BYTE_PIECE, SPACE_MARK
from mlx_suite.text.tokenizer import Tokenizer, load_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Token types of GGUF."""

TURN_ENDS = ("<|eot_id|>", "<end_of_turn>", "<|im_end|>", "<|end|>")
"""Tokens that end a turn, not the text."""
MESSAGE_END = "<|eom_id|>"
"""Llama 3.1's end of a message that calls a tool."""


@dataclass(frozen=True, kw_only=True)
class GGUFVocabulary:
    """What the `tokenizer.ggml.*` keys of a file say."""

    model: str
    """`gpt2` or `llama`."""
    pre: str
    """The way of cutting text before the merges; `default` for SentencePiece, which has none."""
    tokens: tuple[str, ...]
    """One for each row of the embedding, `[PAD2050]` where the tokenizer has none."""
    types: tuple[int, ...]
    """GGUF's types, one for each token."""
    merges: tuple[str, ...] = field(default=(), repr=False)
    """`gpt2` only: pairs, best first, a space between."""
    scores: tuple[float, ...] = field(default=(), repr=False)
    """`llama` only: the higher, the sooner merged."""
    ids: Mapping[str, int]
    """Special tokens by GGUF's role: bos, eos, eot, eom, unknown, padding."""
    adds_bos: bool
    """Whether a text begins with BOS."""
    adds_space: bool
    """`llama` only: whether every text, behind a special token too, begins with a space of its own."""
    loses_first_space: bool = False
    """`llama` only: whether the tokenizer puts a space before the first text alone, which llama.cpp cannot. It is left
    out where there is a chat template, whose texts stand behind special tokens."""


def read_vocabulary(folder: Path, rows: int) -> GGUFVocabulary:
    """The vocabulary of a checkpoint folder for an embedding of that many rows.

    Raises UserError for a tokenizer that llama.cpp would not reproduce, or with more tokens than rows.
    """
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model's embedding {rows:,} rows",
            where=str(folder),
            fix="take the tokenizer and the weights from the same checkpoint",
        )
    fast = read_json(folder / "tokenizer.json")
    model = _ModelFile.read(folder / "tokenizer.model")
    byte_level = tokenizer.backend.token_bytes is not None and tokenizer.backend.token_bytes.spelling == "byte_level"
    if fast and fast["model"].get("type") != "BPE" or not fast and (model is None or not model.merges_by_score):
        raise UserError(
            "llama.cpp's vocabularies of this kind are not written here: only BPE is",
            where=str(folder),
            fix="convert this model with llama.cpp's own convert_hf_to_gguf.py",
        )
    tokens, types = _tokens(tokenizer, fast, model, rows, spaced=not byte_level)
    _refuse_twins(tokens, folder)
    merges = _merges(fast)
    space = "never" if byte_level else _space(fast, model)
    loses = space == "first" and has_template(folder)
    return GGUFVocabulary(
        model="gpt2" if byte_level else "llama",
        pre=pretokenizer_name(fast, str(folder / "tokenizer.json")) if byte_level else "default",
        tokens=tuple(tokens),
        types=tuple(types),
        merges=tuple(" ".join(pair) for pair in merges) if byte_level else (),
        scores=() if byte_level else tuple(_scores(tokens, model, merges)),
        ids=special_ids(tokenizer),
        adds_bos=tokenizer.adds_bos,
        adds_space=space != "never" and not loses,
        loses_first_space=loses,
    )


def has_template(folder: Path) -> bool:
    """Whether the checkpoint has a chat template."""
    return (folder / TEMPLATE_FILE).is_file() or read_settings(folder).chat_template is not None


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Special tokens by GGUF's roles; the stop tokens among them, so that llama.cpp ends where the model does."""
    ids = {
        name: index
        for name, role in (("bos", "bos_token"), ("unknown", "unk_token"), ("padding", "pad_token"))
        if (index := _role(tokenizer, role)) is not None
    }
    stops = sorted(tokenizer.stop_ids)
    eos = _role(tokenizer, "eos_token")
    if eos is None or (stops and eos not in stops):
        eos = stops[0] if stops else None
    if eos is not None:
        ids["eos"] = eos
    others = [index for index in stops if index != eos]
    for name, texts in (("eom", (MESSAGE_END,)), ("eot", TURN_ENDS)):
        found = next((index for index in stops if tokenizer.token_of(index) in texts), None)
        if found is not None:
            ids[name] = found
            others = [index for index in others if index != found]
    for name in ("eot", "eom"):
        if others and name not in ids:
            ids[name] = others.pop(0)
    return ids


def _role(tokenizer: Tokenizer, role: str) -> int | None:
    text = tokenizer.settings.roles.get(role)
    return None if text is None or text in tokenizer.outside else tokenizer.id_of(text)


@dataclass(frozen=True, kw_only=True)
class _ModelFile:
    """What a SentencePiece model says beyond its pieces' ids."""

    scores: Mapping[str, float]
    types: Mapping[str, int]
    """SentencePiece's types are GGUF's."""
    merges_by_score: bool
    """BPE, not unigram."""
    adds_space: bool

    @classmethod
    def read(cls, path: Path) -> "_ModelFile | None":
        if not path.is_file():
            return None
        from mlx_suite.text.sentencepiece_backend import ModelProto

        proto = ModelProto()
        try:
            proto.ParseFromString(path.read_bytes())
        except Exception as error:  # protobuf's DecodeError
            what = f"tokenizer.model is not a SentencePiece model: {error}"
            raise UserError(what, str(path), "download the model again") from error
        return cls(
            scores={piece.piece: piece.score for piece in proto.pieces},
            types={piece.piece: piece.type for piece in proto.pieces},
            merges_by_score=proto.trainer_spec.model_type == proto.trainer_spec.BPE,
            adds_space=proto.normalizer_spec.add_dummy_prefix,
        )


def _tokens(
    tokenizer: Tokenizer, fast: Mapping[str, Any], model: _ModelFile | None, rows: int, *, spaced: bool
) -> tuple[list[str], list[int]]:
    """Texts and types in the order of the ids."""
    added = {token["id"] for token in fast.get("added_tokens", ())}
    unknown = _role(tokenizer, "unk_token")
    tokens, types = [], []
    for index in range(rows):
        text = tokenizer.token_of(index)
        if text is None:
            text, kind = f"[PAD{index}]", UNUSED
        elif index == unknown and spaced:
            kind = UNKNOWN
        elif index in tokenizer.special_ids:
            kind = CONTROL
        elif index in added or (not fast and model is not None and model.types.get(text) == USER_DEFINED):
            kind = USER_DEFINED
            # llama.cpp looks for these in the text as it was typed.
            text = text.replace(SPACE_MARK, " ") if spaced else text
        elif spaced and BYTE_PIECE.fullmatch(text):
            kind = BYTE
        else:
            kind = NORMAL
        tokens.append(text)
        types.append(kind)
    return tokens, types


def _refuse_twins(tokens: Sequence[str], folder: Path) -> None:
    """llama.cpp aborts on them."""
    twins = [text for text, number in Counter(tokens).items() if number > 1]
    if twins:
        raise UserError(
            f"{len(twins)} tokens have the same text as another, which llama.cpp cannot load",
            where=str(folder),
            fix="take these tokens out of the tokenizer",
            details=[repr(text) for text in twins[:20]],
        )


def _merges(fast: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs, best first; older files join them by a space."""
    pairs = fast["model"].get("merges", ()) if fast else ()
    return [tuple(pair.split(" ", 1) if isinstance(pair, str) else pair) for pair in pairs]


def _scores(tokens: Sequence[str], model: _ModelFile | None, merges: Sequence[tuple[str, str]]) -> list[float]:
    """SentencePiece's own scores, or, of a folder without its file, the ranks of the merges turned round."""
    lowest = -float(len(merges) + 1)
    if model is not None and model.merges_by_score:
        return [model.scores.get(text, model.scores.get(text.replace(" ", SPACE_MARK), lowest)) for text in tokens]
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    return [-float(ranks[text]) if text in ranks else lowest for text in tokens]


def _space(fast: Mapping[str, Any], model: _ModelFile | None) -> Literal["never", "first", "always"]:
    """Before which texts a tokenizer puts a space."""
    if not fast:
        return "first" if model is not None and model.adds_space else "never"
    spoken = json.dumps([fast.get("normalizer"), fast.get("pre_tokenizer")])
    # A Metaspace of before tokenizers 0.15 says `add_prefix_space`.
    signs = ('"type": "Prepend"', '"prepend_scheme": "always"', '"add_prefix_space": true')
    if any(sign in spoken for sign in signs):
        return "always"
    return "first" if '"prepend_scheme": "first"' in spoken else "never"
