"""A tokenizer.json from the tokens of a GGUF file."""

from collections.abc import Mapping
from typing import Any, Literal

from mlx_suite.gguf.pre_tokenizers import PreTokenizer, pre_tokenizer_json
from mlx_suite.gguf.score_merges import merges_from_scores
from mlx_suite.gguf.token_list import BYTE, TokenList
from mlx_suite.text.token_bytes import SPACE_MARK

Space = Literal["never", "first", "always"]
"""Whether a space is put in front of no text, of the first of a sequence, or of every text between special tokens."""


def sentencepiece_json(tokens: TokenList, *, space: Space, adds_bos: bool) -> dict[str, Any]:
    """The tokenizer.json of a SentencePiece-like vocabulary: BPE over whole texts, bytes for unknown characters."""
    vocabulary = {text: index for index, text in enumerate(tokens.texts)}
    # Files without scores list the tokens in the order in which they were learned.
    scores = tokens.scores or [-float(index) for index in range(len(tokens.texts))]
    merges = merges_from_scores(vocabulary, tokens.types, scores)
    to_marks = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}
    normalizer: dict[str, Any] | None = to_marks
    if space == "always":
        steps = [{"type": "Prepend", "prepend": SPACE_MARK}, to_marks]
        normalizer = {"type": "Sequence", "normalizers": steps}
    pre = None
    if space == "first":
        normalizer = None
        pre = {"type": "Metaspace", "replacement": SPACE_MARK, "prepend_scheme": "first", "split": False}
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if space != "never":
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = tokens.roles.get("unk_token")
    model = _model(vocabulary, [list(pair) for pair in merges])
    model |= {
        "unk_token": None if unknown is None else tokens.texts[unknown],
        "fuse_unk": True,
        "byte_fallback": BYTE in tokens.types,
    }
    return _whole(tokens, normalizer, pre, {"type": "Sequence", "decoders": decoders}, model, adds_bos=adds_bos)


def byte_level_json(tokens: TokenList, pre: PreTokenizer, *, adds_bos: bool) -> dict[str, Any]:
    """The tokenizer.json of byte-level BPE."""
    added = tokens.added
    # Added tokens at the end are no part of the model's vocabulary, as in the original files. Others must be part of
    # it: the tokenizers library gives an added token outside the vocabulary the next free id.
    plain = max((index for index in range(len(tokens.texts)) if index not in added), default=-1) + 1
    vocabulary = {text: index for index, text in enumerate(tokens.texts[:plain])}
    model = _model(vocabulary, [pair.split(" ", 1) for pair in tokens.merges])
    model["ignore_merges"] = pre.whole_words
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    normalizer = {"type": "NFC"} if pre.nfc else None
    return _whole(tokens, normalizer, pre_tokenizer_json(pre), decoder, model, adds_bos=adds_bos)


def _model(vocabulary: Mapping[str, int], merges: list[list[str]]) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": merges,
    }


def _whole(
    tokens: TokenList,
    normalizer: dict[str, Any] | None,
    pre: dict[str, Any] | None,
    decoder: dict[str, Any],
    model: dict[str, Any],
    *,
    adds_bos: bool,
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": tokens.texts[index],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": special,
            }
            for index, special in tokens.added.items()
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre,
        "post_processor": _post_processor(tokens) if adds_bos else None,
        "decoder": decoder,
        "model": model,
    }


def _post_processor(tokens: TokenList) -> dict[str, Any]:
    """Puts BOS in front of each text."""
    index = tokens.roles["bos_token"]
    bos = tokens.texts[index]

    def parts(*sequences: str) -> list[dict[str, Any]]:
        return [
            part
            for number, name in enumerate(sequences)
            for part in (
                {"SpecialToken": {"id": bos, "type_id": number}},
                {"Sequence": {"id": name, "type_id": number}},
            )
        ]

    return {
        "type": "TemplateProcessing",
        "single": parts("A"),
        "pair": parts("A", "B"),
        "special_tokens": {bos: {"id": bos, "ids": [index], "tokens": [bos]}},
    }
