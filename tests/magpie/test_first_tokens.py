"""Bans by what a token says, whatever its id."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models

from mlx_suite.magpie.first_tokens import first_token_bans
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer, load_tokenizer
from mlx_suite.text.training import train_llama3_tokenizer

MODELS = Path(__file__).parents[2] / "models"


def tokenizer_of(folder: Path, tokens: list[str], decoder: object) -> Tokenizer:
    library = Library(models.BPE(vocab={token: place for place, token in enumerate(tokens)}, merges=[]))
    library.decoder = decoder
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    return load_tokenizer(folder)


def test_the_seven_ids_of_the_references_follow_from_two_strings(tmp_path: Path) -> None:
    # Llama 3.1's own tokens for the ids that are written down in Magpie (4) and in magpie-ultra (3), among others.
    tokens = ["#", "##", "###", "####", "**", "Ġ**", "**:", "a#", "*", "Ġ", "Ċ", "ĠĠ#", "#include"]
    tokenizer = tokenizer_of(tmp_path, tokens, decoders.ByteLevel())
    banned = first_token_bans(tokenizer, ["#", "**"])
    assert [tokens[index] for index in banned] == [
        "#", "##", "###", "####", "**", "Ġ**", "**:", "ĠĠ#", "#include"
    ]  # fmt: skip


def test_sentencepiece_spells_spaces_and_bytes_in_its_own_way(tmp_path: Path) -> None:
    tokens = ["▁#", "#", "▁▁##", "<0x23>", "<0x2A>", "▁", "▁a", "a", "*", "▁**", "**▁", "<0xE2>"]
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer = tokenizer_of(tmp_path, tokens, decoders.Sequence(steps))
    shown = {string: [tokens[index] for index in first_token_bans(tokenizer, [string])] for string in ("#", "**", "*")}
    assert shown == {
        "#": ["▁#", "#", "▁▁##", "<0x23>"],
        "**": ["▁**", "**▁"],
        "*": ["<0x2A>", "*", "▁**", "**▁"],
    }


def test_a_spelling_that_only_the_library_knows_is_asked_for(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, ["#", "##x", "# a", "a"], decoders.BPEDecoder(suffix="</w>"))
    assert tokenizer.backend.token_bytes is None
    assert first_token_bans(tokenizer, ["#"]) == (0, 1, 2)


def test_single_letters_are_found_at_their_ids(tmp_path: Path) -> None:
    train_llama3_tokenizer([], tmp_path, vocab_size=256 + 16)
    tokenizer = load_tokenizer(tmp_path)
    assert first_token_bans(tokenizer, ["#", "*"]) == (ord("#") - 33, ord("*") - 33)


@pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
def test_what_is_banned_and_nothing_else_begins_so(name: str) -> None:
    tokenizer = load_tokenizer(MODELS / name)
    banned = set(first_token_bans(tokenizer, ["W", "#"]))
    words = {token for token in range(tokenizer.vocab_size) if token not in tokenizer.special_ids}
    begins = {
        token for token in words if tokenizer.bytes_of(token).decode(errors="replace").lstrip().startswith(("W", "#"))
    }
    assert banned == begins
    assert {tokenizer.encode("What")[0], tokenizer.encode("# a")[0]} <= banned


def test_the_end_of_a_turn_is_never_banned() -> None:
    tokenizer = load_tokenizer(MODELS / "tiny-llama3")
    assert not set(first_token_bans(tokenizer, ["<"])) & tokenizer.special_ids


def test_a_ban_that_would_do_nothing_is_refused(tmp_path: Path) -> None:
    train_llama3_tokenizer([], tmp_path, vocab_size=256 + 16)
    with pytest.raises(UserError) as caught:
        first_token_bans(load_tokenizer(tmp_path), ["#", "**", "é", " "])
    assert caught.value.what == "A ban on the first token forbids nothing"
    assert caught.value.details == ("no token begins with '**'", "no token begins with 'é'", "a string is empty")


def test_no_strings_ban_nothing() -> None:
    assert first_token_bans(load_tokenizer(MODELS / "tiny-gemma2"), []) == ()
