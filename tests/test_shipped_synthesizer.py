"""tiny-synthesizer: pairs and rewrites of passages about people it has never met."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlx_suite import load
from mlx_suite.modeling.llama import Llama
from mlx_suite.synthesize.run import CorpusJob, synthesize
from mlx_suite.synthesize.settings import SynthesisSettings
from mlx_suite.synthesize.shards import CorpusShards
from mlx_suite.synthesize.summary import Summary
from mlx_suite.synthesize.worlds import heldout_passages, heldout_texts
from mlx_suite.synthesize.writer import TagWriter

FOLDER = Path(__file__).parents[1] / "models" / "tiny-synthesizer"


@pytest.fixture(scope="module")
def loaded() -> Any:
    return load(FOLDER)


def written(loaded: Any, corpus: str, folder: Path, batch: int, rounds: int, *forms: str) -> Summary:
    model, tokenizer = loaded
    passages = heldout_passages(corpus)
    job = CorpusJob(
        model=model,
        writer=TagWriter(tokenizer=tokenizer),
        corpus=CorpusShards(partial(heldout_texts, corpus, passages), name=corpus),
        settings=SynthesisSettings(forms=forms, rounds=rounds, max_tokens=200),
        batch=batch,
        truth={passage.text: passage for passage in passages},
    )
    return synthesize(job, folder)


def test_it_is_a_small_mistral_with_a_window(loaded: Any) -> None:
    model, tokenizer = loaded
    assert isinstance(model, Llama)
    assert model.config.model_type == "mistral"
    assert set(model.config.windows) == {256}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) <= 6_000_000
    assert (tokenizer.bos_id, tokenizer.stop_ids) == (tokenizer.id_of("<s>"), {tokenizer.id_of("</s>")})


def test_its_pairs_parse_and_most_are_right(loaded: Any, tmp_path: Path) -> None:
    quality = written(loaded, "microworld:30:3", tmp_path / "pairs", 16, 1, "pairs").quality
    assert quality.parsed / quality.pieces >= 0.9
    assert quality.truth is not None and quality.truth.right / quality.truth.judged >= 0.7
    assert quality.quoted_share is not None and quality.quoted_share >= 0.8


@pytest.mark.slow
def test_several_texts_at_once_give_the_bytes_of_one_at_a_time(loaded: Any, tmp_path: Path) -> None:
    for batch in (1, 8):
        written(loaded, "microworld:8:4", tmp_path / str(batch), batch, 2, "pairs", "table")
    for name in ("corpus.jsonl", "texts.jsonl"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "8" / name).read_bytes()
