"""A small corpus grown by writing from its texts again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.run import synthesize
from mlx_suite.synthesize.settings import SynthesisSettings
from mlx_suite.text import Tokenizer
from tests.synthesize.scripted_synthesizer import Says, ScriptedEngine, job_of, lines

Install = Callable[[Says], ScriptedEngine]


def other_words(prompt: str, seed: int) -> str:
    """Ten words that depend on the seed."""
    return " " + " ".join(f"w{(seed * 31 + place * seed) % 9973}" for place in range(10)) + " </END>"


def test_a_corpus_grows_to_a_multiple_of_its_tokens_and_ends_there(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    engine = script(other_words)
    texts = ["Ada likes tea and cake.", "Ben likes soup and bread."]
    job = job_of(tokenizer, texts, forms=("prose",), rounds=1, times=6.0)
    summary = synthesize(job, tmp_path).as_dict()
    tokens = sum(len(text) for text in texts)
    assert summary["corpus"]["target_tokens"] == 6 * tokens
    assert 6 * tokens <= summary["corpus"]["tokens"] <= 6 * tokens + 60
    documents = [each["text"] for each in lines(tmp_path / "corpus.jsonl")]
    assert len(documents) == len(set(documents))
    assert documents.count(texts[0]) == 1
    assert len(engine.prompts) == 2 * summary["corpus"]["repeats"]


def test_a_model_that_repeats_itself_ends_the_growth(tokenizer: Tokenizer, script: Install, tmp_path: Path) -> None:
    script(lambda prompt, seed: " always the same words </END>")
    job = job_of(tokenizer, ["Ada likes tea."], forms=("prose",), rounds=1, until_tokens=1000)
    summary = synthesize(job, tmp_path).as_dict()
    assert (summary["corpus"]["repeats"], summary["corpus"]["stalled"]) == (2, True)
    assert summary["cost"]["prose"]["dropped"] == {"repeats an earlier text": 1}
    assert len(lines(tmp_path / "corpus.jsonl")) == 2


def test_a_grown_corpus_grows_further_from_its_completions(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    script(other_words)
    texts = ["Ada likes tea and cake."]
    synthesize(job_of(tokenizer, texts, forms=("prose",), times=4.0), tmp_path / "grown")
    first = (tmp_path / "grown" / "corpus.jsonl").read_bytes()
    engine = script(other_words)
    synthesize(job_of(tokenizer, texts, forms=("prose",), times=8.0), tmp_path / "grown")
    again = len(engine.prompts)
    assert (tmp_path / "grown" / "corpus.jsonl").read_bytes().startswith(first)
    engine = script(other_words)
    synthesize(job_of(tokenizer, texts, forms=("prose",), times=8.0), tmp_path / "new")
    assert again < len(engine.prompts)
    assert (tmp_path / "grown" / "corpus.jsonl").read_bytes() == (tmp_path / "new" / "corpus.jsonl").read_bytes()


def test_pairs_of_a_repeat_ask_what_was_not_asked(tokenizer: Tokenizer, script: Install, tmp_path: Path) -> None:
    script(lambda prompt, seed: f"<QUE> Who? <ANS> Ada </END>\n\n<QUE> {'What?' if seed else 'Where?'} <ANS> b </END>")
    job = job_of(tokenizer, ["Ada eats cake at home."], rounds=1, until_tokens=100_000)
    synthesize(job, tmp_path)
    asked = [pair["question"] for each in lines(tmp_path / "texts.jsonl") for pair in each["written"][0]["pairs"]]
    assert asked == ["Who?", "Where?", "What?"]


def test_two_targets_are_refused() -> None:
    with pytest.raises(UserError, match="both say how far to grow"):
        SynthesisSettings(times=2.0, until_tokens=5)
