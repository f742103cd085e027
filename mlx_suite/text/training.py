"""Train the small tokenizers of the shipped checkpoints and write them as Hugging Face folders.

Both have the structure of the original at a small size, so the code that reads them also reads the tokenizers of
Llama 3 and Gemma 2:

* Llama 3: byte-level BPE with Llama 3's split expression and Llama 3.1's special tokens in their order.
* Gemma 2: SentencePiece BPE with byte fallback, no dummy prefix, split digits and Gemma's first 108 pieces.

Sources: the split expression and the special ids are from meta-llama/llama3's tokenizer, the order of Gemma's pieces
from google/gemma-2-2b's tokenizer.model. The conversion to `tokenizer.json` ranks merges by the piece they produce, as
SentencePiece's own BPE does.
"""

import json
import string
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from mlx_suite.text.settings import TEMPLATE_FILE

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA3_SPECIALS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 8)),
)
"""Llama 3.1's names for ids 128000 … 128015; here they start at `vocab_size - 16`."""

BASE_SPECIALS = ("<unk>", "<s>", "</s>", "<pad>")

GEMMA_CONTROLS = ("<pad>", "<eos>", "<bos>", "<unk>")
GEMMA_TURNS = ("<start_of_turn>", "<end_of_turn>")
GEMMA_USER_DEFINED = (
    "<mask>",
    "[@BOS@]",
    *(f"<unused{number}>" for number in range(100)),
    *GEMMA_TURNS,
    "\n",
    "\n\n",
    "\n\n\n",
)
"""Ids 4 … 110 in Gemma's order (Gemma has up to 31 newlines; three are enough here)."""

LLAMA3_TEMPLATE = r"""{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
    {{- message['content'] | trim }}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

GEMMA2_TEMPLATE = r"""{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {{- raise_exception('System role not supported') }}
    {%- endif %}
    {%- set expected = 'user' if loop.index0 is even else 'assistant' %}
    {%- if message['role'] != expected %}
        {{- raise_exception('Roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set speaker = 'model' if expected == 'assistant' else 'user' %}
    {{- '<start_of_turn>' + speaker + '\n' }}
    {{- message['content'] | trim }}
    {{- '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\n' }}
{%- endif %}
"""

ROUND_TRIPS = (
    "Hello, world!",
    "  two  spaces, a tab\tand\nnew\n\n\n\nlines ",
    "12345 + 67890 = 80235",
    "naïve café — Ωμέγα, 日本語, 🦙👩‍👩‍👧‍👦",
    "def f(x):\n    return x['a'] * 2  # it's",
)
"""Texts of various kinds that must survive encoding and decoding unchanged."""


def train_llama3_tokenizer(texts: Iterable[str], folder: Path, vocab_size: int = 1536) -> None:
    """Train a byte-level BPE like Llama 3's on `texts` and write it to `folder`.

    Ids 0 … `vocab_size - 17` are text, the last 16 are Llama 3.1's special tokens. Deterministic. Raises ValueError if
    `texts` are too short to fill the vocabulary.
    """
    text_ids = vocab_size - len(LLAMA3_SPECIALS)
    tokenizer = _byte_level_bpe()
    trainer = trainers.BpeTrainer(
        vocab_size=text_ids,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = tokenizer.get_vocab_size()
    if learned != text_ids:
        raise ValueError(
            f"the texts fill only {learned} of {text_ids} text ids: add text, or set vocab_size to "
            f"at most {learned + len(LLAMA3_SPECIALS)}"
        )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in LLAMA3_SPECIALS])
    bos, eot, pad = "<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), _bos_first(bos, text_ids)])
    _write_folder(
        folder,
        tokenizer,
        template=LLAMA3_TEMPLATE,
        roles={"bos_token": bos, "eos_token": eot, "pad_token": pad},
        settings={"tokenizer_class": "PreTrainedTokenizerFast"},
    )
    check_llama3_tokenizer(folder, vocab_size)


def train_gemma2_tokenizer(texts: Iterable[str], folder: Path, vocab_size: int = 1536) -> None:
    """Train a SentencePiece BPE like Gemma 2's on `texts` and write it to `folder`.

    Ids: 0 pad, 1 eos, 2 bos, 3 unk, 4 … 110 `GEMMA_USER_DEFINED` (106 and 107 are the turn markers), then 256 bytes,
    then text. `tokenizer.json` gives the same ids as `tokenizer.model`. Deterministic. Raises ValueError if `texts` are
    too short to fill the vocabulary.
    """
    stream = BytesIO()
    pad, eos, bos, unk = GEMMA_CONTROLS
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=stream,
            model_type="bpe",
            vocab_size=vocab_size,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            byte_fallback=True,
            character_coverage=0.9995,
            required_chars="".join(sorted(set(string.printable) - set(string.whitespace))),
            user_defined_symbols=list(GEMMA_USER_DEFINED),
            pad_id=0,
            eos_id=1,
            bos_id=2,
            unk_id=3,
            pad_piece=pad,
            eos_piece=eos,
            bos_piece=bos,
            unk_piece=unk,
            unk_surface="",
            max_sentence_length=1 << 24,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(f"SentencePiece could not train {vocab_size} ids: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(stream.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue())
    _write_folder(
        folder,
        _gemma_as_fast(pieces),
        template=GEMMA2_TEMPLATE,
        roles={"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": unk},
        settings={
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "additional_special_tokens": list(GEMMA_TURNS),
            "sp_model_kwargs": {},
            "spaces_between_special_tokens": False,
            "use_default_system_prompt": False,
        },
    )
    check_gemma2_tokenizer(folder, vocab_size)


def train_base_tokenizer(texts: Iterable[str], folder: Path, vocab_size: int = 1536) -> None:
    """Train a byte-level BPE for a base model on `texts` and write it to `folder`; it has no chat template.

    Ids 0 … 3 are Mistral's <unk>, <s> and </s>, and <pad>; text is split as in Llama 3. Deterministic. Raises
    ValueError if `texts` are too short to fill the vocabulary.
    """
    tokenizer = _byte_level_bpe()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in BASE_SPECIALS],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = tokenizer.get_vocab_size()
    if learned != vocab_size:
        raise ValueError(f"the texts fill only {learned} of {vocab_size} ids: add text, or set vocab_size to {learned}")
    unk, bos, eos, pad = BASE_SPECIALS
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), _bos_first(bos, 1)])
    _write_folder(
        folder,
        tokenizer,
        template=None,
        roles={"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": unk},
        settings={"tokenizer_class": "PreTrainedTokenizerFast"},
    )


def check_llama3_tokenizer(folder: Path, vocab_size: int) -> None:
    """Raise ValueError unless `folder` has a Llama 3 tokenizer with `vocab_size` ids that decodes texts unchanged."""
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    _expect(fast.get_vocab_size() == vocab_size, f"{fast.get_vocab_size()} ids, not {vocab_size}")
    for offset, name in enumerate(LLAMA3_SPECIALS):
        expected = vocab_size - len(LLAMA3_SPECIALS) + offset
        _expect(fast.token_to_id(name) == expected, f"{name} is {fast.token_to_id(name)}, not {expected}")
    for text in ROUND_TRIPS:
        ids = fast.encode(text).ids
        _expect(ids[0] == fast.token_to_id("<|begin_of_text|>"), "a text does not begin with BOS")
        _expect(fast.decode(ids) == text, f"{text!r} is decoded as {fast.decode(ids)!r}")


def check_gemma2_tokenizer(folder: Path, vocab_size: int, texts: Sequence[str] = ROUND_TRIPS) -> None:
    """Raise ValueError unless `folder` has a Gemma 2 tokenizer whose two files agree and decode texts unchanged."""
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    slow = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    _expect(fast.get_vocab_size() == vocab_size, f"{fast.get_vocab_size()} ids, not {vocab_size}")
    for expected, name in enumerate((*GEMMA_CONTROLS, *GEMMA_USER_DEFINED)):
        found = (fast.token_to_id(name), slow.piece_to_id(name))
        _expect(found == (expected, expected), f"{name!r} is {found}, not {expected}")
    for text in texts:
        ids = fast.encode(text).ids
        _expect(ids == [2, *slow.encode(text)], f"tokenizer.json and tokenizer.model disagree on {text!r}")
        _expect(fast.decode(ids) == text, f"{text!r} is decoded as {fast.decode(ids)!r}")


def _byte_level_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _gemma_as_fast(pieces: sentencepiece.SentencePieceProcessor) -> Tokenizer:
    """Convert the pieces for the `tokenizers` library: every split of a piece is a merge, ranked by the piece."""
    size = pieces.get_piece_size()
    vocab = {pieces.id_to_piece(index): index for index in range(size)}
    reserved = len(GEMMA_CONTROLS) + len(GEMMA_USER_DEFINED)
    text_pieces = {piece: index for piece, index in vocab.items() if index >= reserved and not pieces.is_byte(index)}
    merges: list[tuple[str, str]] = []
    for piece in sorted(text_pieces, key=text_pieces.__getitem__):
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(a, b) for a, b in splits if a in text_pieces and b in text_pieces]
        merges += sorted(known, key=lambda pair: (text_pieces[pair[0]], text_pieces[pair[1]]))
    fast = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", "▁")
    fast.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    fast.post_processor = _bos_first("<bos>", vocab["<bos>"])
    special = {*GEMMA_CONTROLS, *GEMMA_TURNS}
    for name in (*GEMMA_CONTROLS, *GEMMA_USER_DEFINED):
        token = AddedToken(name, special=name in special, normalized=False)
        (fast.add_special_tokens if name in special else fast.add_tokens)([token])
    return fast


def _bos_first(bos: str, bos_id: int) -> processors.TemplateProcessing:
    """Post-processor that prepends one BOS if `add_special_tokens` is set."""
    return processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, bos_id)]
    )


def _write_folder(
    folder: Path,
    tokenizer: Tokenizer,
    *,
    template: str | None,
    roles: dict[str, str],
    settings: dict[str, Any],
) -> None:
    """Write the tokenizer files that transformers, mlx-lm and mlx-suite read."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(index): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for index, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    config = {
        **settings,
        **roles,
        "added_tokens_decoder": added,
        **({} if template is None else {"chat_template": template}),
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 1_000_000_000,
    }
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", roles)
    if template is not None:
        (folder / TEMPLATE_FILE).write_text(template, encoding="utf-8")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(f"the trained tokenizer is wrong: {problem}")
