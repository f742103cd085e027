"""Drafts in drafts.jsonl."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlx_suite.curation.tags.tagging import Tag
from mlx_suite.magpie.records import Draft, Ending, Exchange, draft_line, draft_of, read_drafts
from mlx_suite.magpie.settings import SamplingSetting
from mlx_suite.runtime.errors import UserError

END = Ending(reason="stop", stop=3, tokens=14)
FULL = Draft(
    index=12,
    raw="Question: What is 2 + 2?",
    instruction="What is 2 + 2?",
    removed=("label",),
    instruction_end=END,
    steer=(("category", "Math"), ("topic", "böats")),
    sampling=SamplingSetting(temperature=1.1, top_p=0.995),
    tags={"category": Tag(label="Math", confidence=0.931)},
    embedding=np.array([0.6, 0.8], np.float16).astype(np.float32),
    response="4\ud800",
    response_end=Ending(reason="limit", stop=None, tokens=41),
    turns=(Exchange(instruction="And 3?", raw="And 3?", instruction_end=END, response="6", response_end=END),),
    turns_ended="echo",
    response_tags={},
)
SHORT = Draft(index=0, raw="", instruction="", instruction_end=END)


@pytest.mark.parametrize("draft", [FULL, SHORT], ids=["full", "short"])
def test_a_draft_survives_the_round_trip(draft: Draft) -> None:
    line = json.loads(json.dumps(draft_line(draft)))
    again = draft_of(line)

    assert draft_line(again) == line
    assert (again.embedding is None) == (draft.embedding is None)
    if draft.embedding is not None:
        np.testing.assert_array_equal(again.embedding, draft.embedding)
    assert {**vars(again), "embedding": None, "sampling": None} == {**vars(draft), "embedding": None, "sampling": None}


def test_the_last_line_of_a_row_counts(tmp_path: Path) -> None:
    later = Draft(index=0, raw="b", instruction="b", instruction_end=END)
    lines = map(draft_line, (SHORT, FULL, later))
    (tmp_path / "drafts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert {index: draft.raw for index, draft in read_drafts(tmp_path).items()} == {0: "b", 12: FULL.raw}


def test_an_edited_line_is_reported(tmp_path: Path) -> None:
    line = draft_line(SHORT)
    (tmp_path / "drafts.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "raw": "better"}) + "\n")
    with pytest.raises(UserError) as caught:
        read_drafts(tmp_path)

    assert caught.value.what == "Line 2 has been changed: its checksum does not match"
    assert caught.value.where == f"{tmp_path / 'drafts.jsonl'}:2"
    assert caught.value.fix == "delete that line; its row will be generated again"
