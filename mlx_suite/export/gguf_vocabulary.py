"""A checkpoint's tokenizer as GGUF metadata: tokens with types, merges or scores, special ids, pre-tokenizer.

Two of llama.cpp's kinds are supported: `gpt2`, byte-level BPE with a list of merges (Llama 3), and `llama`,
SentencePiece BPE, which merges the pair whose result has the best score (Gemma, Mistral, Llama 2).

Source: gguf-py's constants and llama.cpp's `src/llama-vocab.cpp`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mlx_suite.gguf.pre_tokenizers import DIGITS, GPT2_BYTES, PRE_TOKENIZERS, PreTokenizer
from mlx_suite.gguf.token_list import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.json_file import read_object
from mlx_suite.text.fast_backend import TOKENIZER_JSON_KEYS
from mlx_suite.text.settings import LEGACY_TEMPLATE_FILE, TEMPLATE_FILE, read_settings
from mlx_suite.text.token_bytes import BYTE_PIECE, SPACE_MARK
from mlx_suite.text.tokenizer import Tokenizer, load_tokenizer

TURN_ENDS = ("<|eot_id|>", "<end_of_turn>", "<|im_end|>", "<|end|>")
"""Tokens that end a turn but not the text."""
MESSAGE_END = "<|eom_id|>"
"""Llama 3.1's token at the end of a message with a tool call."""


@dataclass(frozen=True, kw_only=True)
class GGUFVocabulary:
    """Values of the keys `tokenizer.ggml.*`."""

    model: str
    """`gpt2` or `llama`."""
    pre: str
    """Name of the pre-tokenizer; `default` for SentencePiece, which has none."""
    tokens: tuple[str, ...]
    """One token per embedding row; `[PAD2050]` for rows without a token."""
    types: tuple[int, ...]
    """GGUF type of each token."""
    merges: tuple[str, ...] = field(default=(), repr=False)
    """`gpt2` only: pairs joined by a space, best first."""
    scores: tuple[float, ...] = field(default=(), repr=False)
    """`llama` only: pairs with higher scores are merged first."""
    ids: Mapping[str, int]
    """Special token ids by GGUF role: bos, eos, eot, eom, unknown, padding."""
    adds_bos: bool
    """Whether texts begin with BOS."""
    adds_space: bool
    """`llama` only: whether a space is added before every text, also after a special token."""
    loses_first_space: bool = False
    """`llama` only: whether the tokenizer adds a space before the first text only, which llama.cpp cannot do. With a
    chat template, whose texts come after special tokens, the space is omitted."""
    loses_nfc: bool = False
    """`gpt2` only: whether the tokenizer normalizes text to NFC, which llama.cpp does not (Qwen)."""


def read_vocabulary(folder: Path, rows: int) -> GGUFVocabulary:
    """The vocabulary of a checkpoint folder for an embedding of `rows` rows.

    Raises UserError for a tokenizer that llama.cpp cannot reproduce, or with more tokens than rows.
    """
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model's embedding {rows:,} rows",
            where=str(folder),
            fix="take the tokenizer and the weights from the same checkpoint",
        )
    fast = read_object(folder / "tokenizer.json", TOKENIZER_JSON_KEYS)
    model = _ModelFile.read(folder / "tokenizer.model")
    byte_level = tokenizer.backend.token_bytes is not None and tokenizer.backend.token_bytes.spelling == "byte_level"
    if fast and fast["model"].get("type") != "BPE" or not fast and (model is None or not model.merges_by_score):
        raise UserError(
            "only BPE tokenizers can be exported",
            where=str(folder),
            fix="convert this model with llama.cpp's own convert_hf_to_gguf.py",
        )
    tokens, types = _tokens(tokenizer, fast, model, rows, spaced=not byte_level)
    _refuse_duplicates(tokens, folder)
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
        loses_nfc=byte_level and bool(fast.get("normalizer")),
    )


def has_template(folder: Path) -> bool:
    """Whether the checkpoint has a chat template, usable or not."""
    files = (TEMPLATE_FILE, LEGACY_TEMPLATE_FILE)
    return any((folder / name).is_file() for name in files) or read_settings(folder).chat_template is not None


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Special token ids by GGUF role, including stop tokens, so that llama.cpp stops where the model does."""
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
    """Contents of a SentencePiece model, apart from the ids of its pieces."""

    scores: Mapping[str, float]
    types: Mapping[str, int]
    """SentencePiece's types, which are GGUF's too."""
    merges_by_score: bool
    """Whether the model is BPE, not unigram."""
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
            raise UserError(what, str(path), "take the file from the original model") from error
        return cls(
            scores={piece.piece: piece.score for piece in proto.pieces},
            types={piece.piece: piece.type for piece in proto.pieces},
            merges_by_score=proto.trainer_spec.model_type == proto.trainer_spec.BPE,
            adds_space=proto.normalizer_spec.add_dummy_prefix,
        )


def _tokens(
    tokenizer: Tokenizer, fast: Mapping[str, Any], model: _ModelFile | None, rows: int, *, spaced: bool
) -> tuple[list[str], list[int]]:
    """Texts and types of the tokens, in order of ids."""
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
            # llama.cpp searches for these in the original text.
            text = text.replace(SPACE_MARK, " ") if spaced else text
        elif spaced and BYTE_PIECE.fullmatch(text):
            kind = BYTE
        else:
            kind = NORMAL
        tokens.append(text)
        types.append(kind)
    return tokens, types


def _refuse_duplicates(tokens: Sequence[str], folder: Path) -> None:
    """Raise UserError for tokens with the same text, on which llama.cpp aborts."""
    repeated = [text for text, number in Counter(tokens).items() if number > 1]
    if repeated:
        raise UserError(
            f"{len(repeated)} tokens have the same text as another, which llama.cpp cannot load",
            where=str(folder),
            fix="remove these tokens from the tokenizer",
            details=[repr(text) for text in repeated[:20]],
        )


def _merges(fast: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges, best first; older files join each pair with a space."""
    pairs = fast["model"].get("merges", ()) if fast else ()
    return [tuple(pair.split(" ", 1) if isinstance(pair, str) else pair) for pair in pairs]


def _scores(tokens: Sequence[str], model: _ModelFile | None, merges: Sequence[tuple[str, str]]) -> list[float]:
    """SentencePiece's scores; without a SentencePiece file, the negative ranks of the merges."""
    lowest = -float(len(merges) + 1)
    if model is not None and model.merges_by_score:
        return [model.scores.get(text, model.scores.get(text.replace(" ", SPACE_MARK), lowest)) for text in tokens]
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    return [-float(ranks[text]) if text in ranks else lowest for text in tokens]


def _space(fast: Mapping[str, Any], model: _ModelFile | None) -> Literal["never", "first", "always"]:
    """Whether a tokenizer adds a space before no text, only the first, or every text."""
    if not fast:
        return "first" if model is not None and model.adds_space else "never"
    steps = json.dumps([fast.get("normalizer"), fast.get("pre_tokenizer")])
    # A Metaspace from before tokenizers 0.15 has `add_prefix_space`.
    signs = ('"type": "Prepend"', '"prepend_scheme": "always"', '"add_prefix_space": true')
    if any(sign in steps for sign in signs):
        return "always"
    return "first" if '"prepend_scheme": "first"' in steps else "never"


def pretokenizer_name(tokenizer: Mapping[str, Any], where: str) -> str:
    """llama.cpp's name of the pre-tokenizer of a parsed tokenizer.json with byte-level BPE.

    llama.cpp selects the code by this name and a wrong one silently gives other tokens, so it is derived from the
    expressions. Raises UserError for a pre-tokenizer that llama.cpp is not known to have.
    """
    steps = _steps(tokenizer.get("pre_tokenizer") or {})
    whole_words = bool(tokenizer["model"].get("ignore_merges"))
    normalizer = (tokenizer.get("normalizer") or {}).get("type")
    known = None
    if normalizer in (None, "NFC"):
        wanted = PreTokenizer(steps=steps, whole_words=whole_words, nfc=normalizer == "NFC")
        known = next((name for name, pre in PRE_TOKENIZERS.items() if replace(pre, adds_bos=False) == wanted), None)
    if known is None:
        raise UserError(
            "llama.cpp has no known counterpart of this tokenizer's pre-tokenizer",
            where=where,
            fix="convert this model with llama.cpp's own convert_hf_to_gguf.py, which knows more tokenizers",
            details=[f"it splits by {step}" for step in steps],
        )
    return known


def _steps(part: Mapping[str, Any]) -> tuple[str, ...]:
    """The patterns of a pre-tokenizer in order, without steps that only encode bytes."""
    match part.get("type"):
        case "Sequence":
            return tuple(step for one in part["pretokenizers"] for step in _steps(one))
        case "Split" if part.get("behavior") == "Isolated" and not part.get("invert"):
            pattern = part["pattern"]
            return (pattern.get("Regex") or f"the text {pattern.get('String')!r}",)
        case "ByteLevel" if not part.get("add_prefix_space"):
            return (GPT2_BYTES,) if part.get("use_regex", True) else ()
        case "Digits" if part.get("individual_digits"):
            return (DIGITS,)
        case other:
            return (f"a step of type {other!r}",)
