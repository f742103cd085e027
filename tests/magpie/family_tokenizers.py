"""Tokenizers with the special tokens of real model families at their real ids, and few other tokens.

The ids in between are filled with tokens that no text contains, so that headers get the same ids as in the real models.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from mlx_suite.text.training import LLAMA3_SPLIT

LLAMA3 = {
    "<|begin_of_text|>": 128000,
    "<|end_of_text|>": 128001,
    "<|start_header_id|>": 128006,
    "<|end_header_id|>": 128007,
    "<|eom_id|>": 128008,
    "<|eot_id|>": 128009,
}
GEMMA2 = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<start_of_turn>": 106, "<end_of_turn>": 107}
MISTRAL_V01 = {"<unk>": 0, "<s>": 1, "</s>": 2}
MISTRAL_V03 = {**MISTRAL_V01, "[INST]": 3, "[/INST]": 4}
QWEN = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
PHI3 = {
    "<unk>": 0,
    "<s>": 1,
    "</s>": 2,
    "<|endoftext|>": 32000,
    "<|assistant|>": 32001,
    "<|system|>": 32006,
    "<|end|>": 32007,
    "<|user|>": 32010,
}
PHI3_SMALL = {
    "<|endoftext|>": 100257,
    "<|system|>": 100261,
    "<|user|>": 100262,
    "<|assistant|>": 100263,
    "<|end|>": 100266,
}


def write_llama3(folder: Path) -> None:
    words = {"us": 355, "er": 261, "user": 882, "ĊĊ": 271}
    merges = [("u", "s"), ("e", "r"), ("us", "er"), ("Ċ", "Ċ")]
    _save(folder, _byte_level(LLAMA3, words, merges), LLAMA3, stops=[128001, 128008, 128009])
    _configure(folder, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", add_bos_token=True)


def write_qwen(folder: Path) -> None:
    library = _byte_level(QWEN)
    library.normalizer = normalizers.NFC()
    _save(folder, library, QWEN, stops=[151645, 151643])
    _configure(folder, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def write_phi3_small(folder: Path) -> None:
    _save(folder, _byte_level(PHI3_SMALL), PHI3_SMALL, stops=[100257, 100266])
    _configure(folder, bos_token="<|endoftext|>", eos_token="<|endoftext|>", add_bos_token=False)


def write_gemma2(folder: Path) -> None:
    library = _pieces(GEMMA2, bytes_at=217, words={"\n": 108, "\n\n": 109}, merges=[("\n", "\n")])
    library.normalizer = normalizers.Replace(" ", "▁")
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    _save(folder, library, GEMMA2, stops=[1, 107])
    _configure(folder, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", add_bos_token=True)


def write_mistral(folder: Path, specials: Mapping[str, int]) -> None:
    # A word's first token includes the space before it.
    merges = [("▁", "H"), ("▁", "T")]
    library = _pieces(specials, bytes_at=771 if "[INST]" in specials else 3, letters="▁HT", merges=merges)
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    library.decoder = _llama2_decoder()
    _save(folder, library, specials, stops=[2])
    _configure(folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True)


def write_phi3(folder: Path, *, adds_bos: bool) -> None:
    library = _pieces(PHI3, bytes_at=3)
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = _llama2_decoder()
    _save(folder, library, PHI3, stops=[32000, 32001, 32007], eat_right=[name for name in PHI3 if "|" in name])
    _configure(folder, bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>", add_bos_token=adds_bos)


def _byte_level(
    specials: Mapping[str, int], words: Mapping[str, int] | None = None, merges: list[tuple[str, str]] | None = None
) -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Tokenizer(models.BPE(vocab=_filled(specials, words or {}, letters), merges=merges or []))
    words_apart = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated")
    letters_as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([words_apart, letters_as_bytes])
    library.decoder = decoders.ByteLevel()
    return library


def _pieces(
    specials: Mapping[str, int],
    bytes_at: int,
    words: Mapping[str, int] | None = None,
    merges: list[tuple[str, str]] | None = None,
    letters: str = "▁",
) -> Tokenizer:
    """Tokenizer that splits every character into bytes, except `letters` and `words`."""
    words = {**{f"<0x{byte:02X}>": bytes_at + byte for byte in range(256)}, **(words or {})}
    joined = ["".join(pair) for pair in merges or [] if "".join(pair) not in words]
    vocab = _filled(specials, words, [*letters, *joined])
    return Tokenizer(models.BPE(vocab=vocab, merges=merges or [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))


def _llama2_decoder() -> decoders.Decoder:
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    return decoders.Sequence(steps)


def _filled(specials: Mapping[str, int], words: Mapping[str, int], letters: list[str]) -> dict[str, int]:
    """A vocabulary without gaps: letters at the first free ids, then fillers that no text contains."""
    vocab = {**specials, **words}
    taken = set(vocab.values())
    free = [place for place in range(max(taken) + len(letters) + 1) if place not in taken]
    fillers = (f"unused {place}" for place in range(len(free)))
    return vocab | dict(zip([*letters, *fillers], free, strict=False))


def _save(
    folder: Path, library: Tokenizer, specials: Mapping[str, int], stops: list[int], eat_right: list[str] | None = None
) -> None:
    library.add_special_tokens(
        [
            AddedToken(name, special=True, normalized=False, rstrip=name in (eat_right or []))
            for name in sorted(specials, key=specials.__getitem__)
        ]
    )
    library.save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))


def _configure(folder: Path, **config: Any) -> None:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
