"""A tokenizer.json as GGUF metadata, the way llama.cpp's converter writes it, and a comparison of two tokenizers."""

import re
from collections.abc import Mapping
from typing import Any

from mlx_suite.gguf.token_list import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from mlx_suite.text import StreamingDetokenizer, Tokenizer
from tests.gguf.tricky_texts import TRICKY_TEXTS

LISTS = "tokenizer.ggml."
KEYS = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}


def metadata_of(
    file: Mapping[str, Any], config: Mapping[str, Any], rows: int, *, architecture: str, pre: str | None = None
) -> dict[str, Any]:
    """Metadata for an embedding of `rows` rows; `pre` names the pre-tokenizer of byte-level BPE."""
    spelled = {index: text for text, index in file["model"]["vocab"].items()}
    added = {token["id"]: token for token in file["added_tokens"]}
    kinds = [_kind(added.get(index), spelled.get(index), pre) for index in range(rows)]
    texts = [added[i]["content"] if i in added else spelled.get(i, f"[PAD{i}]") for i in range(rows)]
    ids = {text: index for index, text in enumerate(texts)}
    merges = [tuple(pair.split(" ", 1) if isinstance(pair, str) else pair) for pair in file["model"]["merges"]]
    found = {
        "general.architecture": architecture,
        f"{LISTS}model": "gpt2" if pre else "llama",
        # User-defined tokens are written with spaces.
        f"{LISTS}tokens": [
            text.replace("▁", " ") if kind == USER_DEFINED else text for text, kind in zip(texts, kinds, strict=True)
        ],
        f"{LISTS}token_type": kinds,
    }
    if pre:
        found |= {f"{LISTS}pre": pre, f"{LISTS}merges": [" ".join(pair) for pair in merges]}
    else:
        ranks: dict[str, int] = {}
        for rank, (left, right) in enumerate(merges):
            ranks.setdefault(left + right, rank)
        found[f"{LISTS}scores"] = [
            -float(ranks.get(text, len(merges))) if kind == NORMAL else -1000.0
            for text, kind in zip(texts, kinds, strict=True)
        ]
    for role, key in KEYS.items():
        if (text := config.get(role)) in ids:
            found[f"{LISTS}{key}_token_id"] = ids[text]
    if "chat_template" in config:
        found["tokenizer.chat_template"] = config["chat_template"]
    return found


def _kind(added: Mapping[str, Any] | None, text: str | None, pre: str | None) -> int:
    if added is None:
        if text is None:
            return UNUSED
        return BYTE if pre is None and re.fullmatch(r"<0x[0-9A-F]{2}>", text) else NORMAL
    name = added["content"]
    if name == "<unk>":
        return UNKNOWN
    by_look = name in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or re.fullmatch(r"<\|.*\|>|<unused.*>", name)
    return CONTROL if added["special"] or by_look else USER_DEFINED


def assert_same(ours: Tokenizer, theirs: Tokenizer) -> None:
    """Equal ids of user text and of trusted text, and equal text of these ids, whole and streamed."""
    for text in TRICKY_TEXTS:
        ids = theirs.encode(text)
        trusted = theirs.encode_with_specials(text)
        assert (text, ours.encode(text)) == (text, ids)
        assert (text, ours.encode_with_specials(text)) == (text, trusted)
        assert [each.tolist() for each in ours.encode_batch([text])] == [ids]
        for skip_special in (True, False):
            assert ours.decode(trusted, skip_special) == theirs.decode(trusted, skip_special)
            assert streamed(ours, trusted, skip_special) == theirs.decode(trusted, skip_special)


def streamed(tokenizer: Tokenizer, ids: list[int], skip_special: bool) -> str:
    detokenizer = StreamingDetokenizer(tokenizer, skip_special=skip_special)
    return "".join([*map(detokenizer.add, ids), detokenizer.finish()])
