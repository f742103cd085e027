"""A corpus converted into a folder: every text once, chains as prompted, and clear answers to what cannot be done."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.run import synthesize
from mlx_suite.text import Tokenizer
from tests.synthesize.scripted_synthesizer import (
    Says,
    ScriptedEngine,
    job_of,
    lines,
    one_pair,
    text_of,
)

Install = Callable[[Says], ScriptedEngine]
OUTPUTS = ("corpus.jsonl", "texts.jsonl")


def files_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in OUTPUTS]


def test_two_texts_become_one_document_with_their_pairs(tokenizer: Tokenizer, script: Install, tmp_path: Path) -> None:
    engine = script(one_pair)
    synthesize(job_of(tokenizer, ["Ada likes tea", "Ben likes soup"]), tmp_path)
    assert engine.prompts == [
        "<s> <CON> Ada likes tea </CON>\n\n",
        "<s> <CON> Ada likes tea </CON>\n\n<QUE> What about Ada? <ANS> tea </END></s>"
        "<s> <CON> Ben likes soup </CON>\n\n",
    ]
    [document] = lines(tmp_path / "corpus.jsonl")
    assert document["sources"] == ["0", "1"]
    for part in ("Ada likes tea", "What about Ada?", "Ben likes soup", "What about Ben?", "soup"):
        assert part in document["text"]
    assert lines(tmp_path / "texts.jsonl")[1] == {
        "source": "1",
        "place": "corpus:2",
        "text": "Ben likes soup",
        "written": [{"form": "pairs", "shots": 1, "pairs": [{"question": "What about Ben?", "answer": "soup"}]}],
    }


def test_a_text_from_which_nothing_valid_was_written_is_kept_raw_and_breaks_the_chain(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    engine = script(lambda prompt, seed: "no tags" if "Ben" in text_of(prompt) else one_pair(prompt))
    summary = synthesize(job_of(tokenizer, ["Ada eats", "Ben eats", "Cora eats"], rounds=3), tmp_path)
    assert engine.prompts[2] == "<s> <CON> Cora eats </CON>\n\n"
    assert [each["form"] for each in lines(tmp_path / "corpus.jsonl")] == ["pairs", "raw", "pairs"]
    assert lines(tmp_path / "corpus.jsonl")[1]["text"] == "Ben eats"
    assert summary.as_dict()["kept_raw"] == {"nothing valid was written": 1}
    assert summary.as_dict()["cost"]["pairs"]["dropped"] == {"cut off": 1}


def test_a_chain_breaks_where_prompt_and_completion_would_exceed_the_context(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    engine = script(one_pair)
    texts = ["a" * 200, "b" * 200, "c" * 200]
    synthesize(job_of(tokenizer, texts, rounds=3, max_tokens=300), tmp_path)
    # 600 tokens of context less 300: two texts of 200 bytes do not fit.
    assert [prompt.count("<CON>") for prompt in engine.prompts] == [1, 1, 1]
    assert [each["sources"] for each in lines(tmp_path / "corpus.jsonl")] == [["0"], ["1"], ["2"]]


def test_a_share_is_converted_and_the_others_stay_raw(tokenizer: Tokenizer, script: Install, tmp_path: Path) -> None:
    script(one_pair)
    texts = [f"text {number} ends" for number in range(20)]
    summary = synthesize(job_of(tokenizer, texts, share=0.2), tmp_path).as_dict()
    assert (summary["converted"], summary["kept_raw"]) == (4, {"not chosen": 16})
    assert summary["corpus"]["forms"]["raw"]["documents"] == 16


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(alphabet="ab .", max_size=30), max_size=12),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([0.4, 1.0]),
)
def test_no_text_is_lost_or_doubled(
    tokenizer: Tokenizer,
    script: Install,
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    rounds: int,
    size: int,
    share: float,
) -> None:
    script(lambda prompt, seed: one_pair(prompt) if text_of(prompt).count("a") % 2 and text_of(prompt).split() else "")
    marked = [f"{number}| {text}" if text.strip() else text for number, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("run")
    synthesize(job_of(tokenizer, [*marked, "always one"], rounds=rounds, size=size, share=share), folder)
    assert [each["text"] for each in lines(folder / "texts.jsonl")] == [*marked, "always one"]
    documents = lines(folder / "corpus.jsonl")
    sources = [key for each in documents for key in each["sources"]]
    assert sorted(sources, key=int) == [str(n) for n, text in enumerate([*marked, "always one"]) if text.strip()]
    whole = "\n".join(each["text"] for each in documents)
    assert all(whole.count(text) >= 1 for text in marked if text.strip())


def test_a_finished_folder_is_put_together_again_without_the_model(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    script(one_pair)
    synthesize(job_of(tokenizer, ["Ada eats", "Ben eats"]), tmp_path)
    before = files_of(tmp_path)
    engine = script(one_pair)
    synthesize(job_of(tokenizer, ["Ada eats", "Ben eats"]), tmp_path)
    assert (engine.prompts, files_of(tmp_path)) == ([], before)


def test_an_interrupted_run_goes_on_where_it_was_and_ends_with_the_same_bytes(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    texts = [f"text {number} ends" for number in range(7)]
    script(one_pair)
    synthesize(job_of(tokenizer, texts, rounds=3, size=4), tmp_path / "whole")
    for stop in (1, 3, 2):
        engine = script(one_pair)

        def until(prompt: str, seed: int, engine: ScriptedEngine = engine, stop: int = stop) -> str:
            if len(engine.prompts) > stop:
                raise KeyboardInterrupt
            return one_pair(prompt)

        engine.says = until
        with pytest.raises(KeyboardInterrupt):
            synthesize(job_of(tokenizer, texts, rounds=3, size=4), tmp_path / "stopped")
    engine = script(one_pair)
    synthesize(job_of(tokenizer, texts, rounds=3, size=4), tmp_path / "stopped")
    assert len(engine.prompts) == 1
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def test_other_settings_and_another_corpus_are_refused_with_the_differences(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    script(one_pair)
    synthesize(job_of(tokenizer, ["Ada eats", "Ben eats"]), tmp_path)
    with pytest.raises(UserError) as other:
        synthesize(job_of(tokenizer, ["Ada eats", "Ben eats"], rounds=3), tmp_path)
    assert other.value.details == ("rounds: was 2, now 3",)
    with pytest.raises(UserError) as changed:
        synthesize(job_of(tokenizer, ["Ada eats", "Ben eats", "Cora eats"]), tmp_path)
    assert changed.value.details[0] == "corpus.texts: was 2, now 3"


def test_a_corpus_that_changes_while_it_is_read_ends_the_run_and_keeps_what_was_written(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    texts = ["Ada eats", "Ben eats", "Cora eats"]
    job = job_of(tokenizer, texts, size=1)

    def says(prompt: str, seed: int) -> str:
        texts[1] = "Ben sleeps"
        return one_pair(prompt)

    script(says)
    with pytest.raises(UserError, match="The corpus changed while it was read") as error:
        synthesize(job, tmp_path)
    assert error.value.where == "corpus, at corpus:2"
    texts[1] = "Ben eats"
    engine = script(one_pair)
    synthesize(job, tmp_path)
    assert [text_of(prompt) for prompt in engine.prompts] == ["Ben eats", "Cora eats"]


def test_a_full_disk_says_what_is_kept_and_the_run_goes_on_later(
    tokenizer: Tokenizer, script: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(one_pair)
    write, written = os.write, []

    def full(handle: int, data: bytes) -> int:
        written.append(data)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "full")
        return write(handle, data)

    texts = [f"text {number} ends" for number in range(4)]
    monkeypatch.setattr("mlx_suite.runtime.journal.os.write", full)
    with pytest.raises(UserError, match="The disk is full. 2 finished lines are kept"):
        synthesize(job_of(tokenizer, texts), tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]
    monkeypatch.undo()
    engine = script(one_pair)
    synthesize(job_of(tokenizer, texts), tmp_path)
    assert len(engine.prompts) == 2


def test_a_long_text_is_written_from_in_parts(tokenizer: Tokenizer, script: Install, tmp_path: Path) -> None:
    script(one_pair)
    text = "".join(f"This is sentence {number}. " for number in range(60))
    summary = synthesize(job_of(tokenizer, [text]), tmp_path).as_dict()
    records = lines(tmp_path / "texts.jsonl")
    assert "".join(each["text"] for each in records) == text
    assert (summary["texts"], summary["split"], summary["parts"]) == (1, 1, len(records))
    assert len(records) == 3


def test_a_text_with_a_tag_of_the_format_and_a_blank_one_are_not_written_from(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    engine = script(one_pair)
    summary = synthesize(job_of(tokenizer, ["a <QUE> b", "  ", "Ada eats"]), tmp_path).as_dict()
    assert len(engine.prompts) == 1
    assert summary["kept_raw"] == {"holds a tag of the format": 1, "blank": 1}
    assert [each["text"] for each in lines(tmp_path / "corpus.jsonl") if each["form"] == "raw"] == ["a <QUE> b"]


def test_a_context_without_room_for_a_text_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A context of 600 tokens has no room for a text: 590"):
        synthesize(job_of(tokenizer, ["Ada eats"], max_tokens=590), tmp_path)


def test_pairs_before_the_text(tokenizer: Tokenizer, script: Install, tmp_path: Path) -> None:
    script(one_pair)
    synthesize(job_of(tokenizer, ["Ada likes tea"], forms=("pit",)), tmp_path)
    [document] = lines(tmp_path / "corpus.jsonl")
    assert document["text"].index("What about Ada?") < document["text"].index("Ada likes tea")


def test_rewrites_stand_beside_the_raw_text_and_copies_are_dropped(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    answers = {"Ada likes tea": " tea is what Ada drinks </END>", "Ben likes soup": " Ben likes soup. </END>"}
    engine = script(lambda prompt, seed: answers[text_of(prompt)])
    summary = synthesize(job_of(tokenizer, list(answers), forms=("prose",), rounds=1), tmp_path).as_dict()
    assert engine.prompts[0] == "<s> <CON> Ada likes tea </CON>\n\n<REW> prose <OUT>"
    assert [(each["form"], each["text"]) for each in lines(tmp_path / "corpus.jsonl")] == [
        ("raw", "Ada likes tea"),
        ("prose", "tea is what Ada drinks"),
        ("raw", "Ben likes soup"),
    ]
    assert summary["cost"]["prose"]["dropped"] == {"a copy of its text": 1}


def test_a_question_that_repeats_one_of_another_text_is_dropped_on_request(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    script(lambda prompt, seed: "<QUE> What is this text about? <ANS> food </END>")
    texts = ("Ada eats", "Ben eats")
    kept = synthesize(job_of(tokenizer, texts), tmp_path / "kept").as_dict()
    dropped = synthesize(job_of(tokenizer, texts, dedupe=True), tmp_path / "dropped").as_dict()
    assert (kept["cost"]["pairs"]["accepted"], dropped["cost"]["pairs"]["accepted"]) == (2, 1)
    assert dropped["cost"]["pairs"]["dropped"] == {"repeats an earlier question": 1}


def test_the_ledger_counts_tokens_and_time_for_each_accepted_pair(
    tokenizer: Tokenizer, script: Install, tmp_path: Path
) -> None:
    script(one_pair)
    synthesize(job_of(tokenizer, ["Ada eats"], rounds=1), tmp_path)
    summary: dict[str, Any] = json.loads((tmp_path / "summary.json").read_text())
    cost = summary["cost"]["pairs"]
    written = "<QUE> What about Ada? <ANS> eats </END>"
    assert (cost["completions"], cost["accepted"]) == (1, 1)
    assert (cost["tokens_written"], cost["tokens_per_accepted"]) == (len(written), float(len(written)))
    assert cost["tokens_read"] == 1 + len(" <CON> Ada eats </CON>\n\n")
    assert summary["corpus"]["source_tokens"] == len("Ada eats")
