"""Readers: every shape becomes texts with pairs, and every problem is named with its place, all at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.data.read.records import record_of
from mlx_suite.microworld.population import FAMILY_NAMES, GIVEN_NAMES, TOWN_NAMES, is_heldout_name
from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.aqua import split_problem, without_letters
from mlx_suite.synthesize.format import Example, Pair, Rewrite
from mlx_suite.synthesize.readers import ReadingData, _read_records, read_training_data
from mlx_suite.synthesize.worlds import read_world

SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "Oakford",
            "paragraphs": [
                {
                    "context": " Oakford lies on the Alba. It sells wool.\n",
                    "qas": [
                        {"id": "1", "question": "Which river?", "answers": [{"text": "the Alba", "answer_start": 16}]},
                        {"id": "2", "question": "What is sold?", "answers": [{"text": "wool"}, {"text": "the wool"}]},
                        {"id": "3", "question": "Which king?", "answers": [], "is_impossible": True},
                        {"id": "4", "question": "which RIVER?", "answers": [{"text": "Alba"}]},
                    ],
                },
                {"context": "Nobody asks about this.", "qas": []},
            ],
        }
    ],
}
HOTPOT = {
    "question": "In which country was Ada born?",
    "answer": "Norland",
    "context": [
        ["Ada", ["Ada is a baker. ", "She was born in Oakford."]],
        ["Ben", ["Ben is a pilot."]],
        ["Oakford", ["Oakford is in Norland.", "It sells wool."]],
    ],
    "supporting_facts": [["Ada", 1], ["Oakford", 0]],
}
AQUA = {
    "question": "Ada has 3 apples. She buys 4 more. How many has she now?",
    "options": ["A)7", "B)12", "C)1"],
    "rationale": "3 + 4 = 7\nAnswer: A",
    "correct": "A",
}


def save(path: Path, *rows: Any) -> Path:
    """Rows as JSON lines; a single row in a .json file as JSON."""
    text = json.dumps(rows[0]) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def read(*sources: Path | str) -> list[ReadingData]:
    return read_training_data([str(source) for source in sources])


def examples(data: ReadingData) -> list[Example]:
    return [each.example for each in data.examples]


def test_squad_gives_one_example_per_paragraph_with_the_first_answer_of_each_question(tmp_path: Path) -> None:
    [data] = read(save(tmp_path / "squad.json", SQUAD))
    assert (data.name, data.shape, data.pairs) == ("squad.json", "squad", 2)
    assert examples(data) == [
        Example(
            text="Oakford lies on the Alba. It sells wool.",
            pairs=(
                Pair(question="Which river?", answer="the Alba"),
                Pair(question="What is sold?", answer="wool"),
            ),
        )
    ]
    assert data.examples[0].place == "squad.json, row 1, paragraph 1"
    assert data.skipped == {"question without an answer": 1, "question asked before": 1, "text without pairs": 1}


def test_rows_of_the_hub_with_the_same_context_become_one_example(tmp_path: Path) -> None:
    rows = [
        {"context": "Ada bakes.", "question": "Who?", "answers": {"text": ["Ada"], "answer_start": [0]}},
        {"context": "Ben flies.", "question": "Who?", "answers": {"text": ["Ben"], "answer_start": [0]}},
        {"context": "Ada bakes.", "question": "What?", "answers": {"text": ["bakes"], "answer_start": [4]}},
        {"context": "Ada bakes.", "question": "Why?", "answers": {"text": [], "answer_start": []}},
    ]
    [data] = read(save(tmp_path / "train.jsonl", *rows))
    assert examples(data) == [
        Example(
            text="Ada bakes.",
            pairs=(Pair(question="Who?", answer="Ada"), Pair(question="What?", answer="bakes")),
        ),
        Example(text="Ben flies.", pairs=(Pair(question="Who?", answer="Ben"),)),
    ]
    assert data.skipped == {"question without an answer": 1}


def as_columns(row: dict[str, Any]) -> dict[str, Any]:
    """A HotpotQA row as the hub has it."""
    return row | {
        "context": {
            "title": [title for title, _ in row["context"]],
            "sentences": [sentences for _, sentences in row["context"]],
        },
        "supporting_facts": {
            "title": [title for title, _ in row["supporting_facts"]],
            "sent_id": [at for _, at in row["supporting_facts"]],
        },
    }


@pytest.mark.parametrize("row", [HOTPOT, as_columns(HOTPOT)])
def test_hotpot_keeps_the_supporting_paragraphs_and_reasons_with_the_supporting_sentences(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    [data] = read(save(tmp_path / "hotpot.jsonl", row))
    assert examples(data) == [
        Example(
            text="Ada\nAda is a baker. She was born in Oakford.\n\nOakford\nOakford is in Norland. It sells wool.",
            pairs=(
                Pair(
                    question="In which country was Ada born?",
                    reasoning="She was born in Oakford. Oakford is in Norland.",
                    answer="Norland",
                ),
            ),
        )
    ]


def test_aqua_splits_a_problem_into_situation_and_question_and_removes_letters(tmp_path: Path) -> None:
    [data] = read(save(tmp_path / "aqua.jsonl", AQUA))
    assert examples(data) == [
        Example(
            text="Ada has 3 apples. She buys 4 more.",
            pairs=(
                Pair(question="How many has she now?", options=("7", "12", "1"), answer="7", reasoning="3 + 4 = 7"),
            ),
        )
    ]


def test_a_problem_of_one_sentence_is_the_text_and_the_question() -> None:
    assert split_problem("What is 3 + 4?") == ("What is 3 + 4?", "What is 3 + 4?")
    assert split_problem("Ada walks. How far? [1 km = 0.6 miles]") == ("Ada walks.", "How far? [1 km = 0.6 miles]")
    assert split_problem("Ada walks 3 km. Find the time.") == ("Ada walks 3 km.", "Find the time.")


@pytest.mark.parametrize(
    ("rationale", "kept"),
    [
        ("3 + 4 = 7. Answer D", "3 + 4 = 7."),
        ("3 + 4 = 7\nCorrect answer - A", "3 + 4 = 7"),
        ("3 + 4 = 7\nThe answer is B.", "3 + 4 = 7"),
        ("3 + 4 = 7\nCORRECT OPTION:OPTION E", "3 + 4 = 7"),
        ("3 + 4 = 7\nans: (C)", "3 + 4 = 7"),
        ("3 + 4 = 7\nD", "3 + 4 = 7"),
        ("The answer is 7.", "The answer is 7."),
        ("Option A is too small. 3 + 4 = 7", ""),
        ("Answer: A", ""),
    ],
)
def test_a_rationale_does_not_name_letters_which_shuffling_would_make_wrong(rationale: str, kept: str) -> None:
    assert without_letters(rationale) == kept


def test_rows_of_our_own_have_options_reasoning_or_a_rewrite(tmp_path: Path) -> None:
    rows = [
        {
            "text": "Ada bakes.",
            "pairs": [
                {"question": "Who?", "answer": "Ada", "options": ["Ben", "Ada"]},
                {"question": "Does Ada work?", "answer": "yes", "options": [], "reasoning": "She bakes."},
            ],
        },
        {"text": "Ben flies.", "rewrite": {"form": "table", "text": "| Ben | flies |"}},
    ]
    [data] = read(save(tmp_path / "own.jsonl", *rows))
    assert examples(data) == [
        Example(
            text="Ada bakes.",
            pairs=(
                Pair(question="Who?", answer="Ada", options=("Ben", "Ada")),
                Pair(question="Does Ada work?", answer="yes", reasoning="She bakes."),
            ),
        ),
        Example(text="Ben flies.", rewrite=Rewrite(form="table", text="| Ben | flies |")),
    ]


def test_the_microworld_needs_no_file_and_depends_on_the_seed() -> None:
    [data] = read_training_data(["microworld:40"], seed=1)
    assert (data.name, data.shape, len(data.examples)) == ("microworld", "microworld", 40)
    assert {pair.kind for example in examples(data) for pair in example.pairs} == {
        *("free", "choice", "reasoning", "both")
    }
    assert all(example.pairs for example in examples(data))
    assert list(read_world("microworld:40", seed=1)) == examples(data)
    assert list(read_world("microworld:40", seed=2)) != examples(data)
    assert list(read_world("microworld:10", seed=1)) == examples(data)[:10]


def test_no_held_out_name_is_in_the_training_data() -> None:
    text = " ".join(
        example.text for source in ("microworld:60", "microworld-rewrites:60") for example in read_world(source)
    )
    names = [f"{given} {family}" for given in GIVEN_NAMES for family in FAMILY_NAMES]
    assert sum(name in text for name in names) > 50
    assert not any(name in text for name in (*names, *TOWN_NAMES) if is_heldout_name(name))


def test_rewrites_of_the_microworld_have_all_forms() -> None:
    [data] = read_training_data(["microworld-rewrites:40"])
    forms = {example.rewrite.form for example in examples(data) if example.rewrite is not None}
    assert forms == {"prose", "faq", "table", "tutorial", "quiz"}


def test_several_sources_stay_several_datasets_in_their_order(tmp_path: Path) -> None:
    squad, aqua = save(tmp_path / "squad.json", SQUAD), save(tmp_path / "aqua.jsonl", AQUA)
    assert [data.name for data in read(aqua, "microworld:3", squad)] == ["aqua.jsonl", "microworld", "squad.json"]


def test_all_problems_of_all_sources_are_reported_at_once_with_their_places(tmp_path: Path) -> None:
    own = save(
        tmp_path / "own.jsonl",
        {"text": "Ada bakes.", "pairs": [{"question": "Who?", "answer": ""}, {"question": 3, "answer": "Ada"}]},
        {"text": "A <CON> tag.", "pairs": []},
        {"text": "Ben flies.", "pairs": [{"question": "Who?", "answer": "Ida", "options": ["Ben", "Eva"]}]},
        {"text": "Ida sings.", "pairs": [{"question": "Who <ANS>?", "answer": "Ida"}, "x"]},
        {"instruction": "Say hello.", "output": "Hello."},
    )
    aqua = save(tmp_path / "aqua.jsonl", AQUA | {"correct": "E"}, AQUA | {"options": "A)7"}, AQUA | {"rationale": " "})
    hotpot = save(tmp_path / "hotpot.jsonl", HOTPOT | {"context": [["Ada", "bakes"]]})
    with pytest.raises(UserError) as error:
        read(own, aqua, hotpot)
    assert list(error.value.details) == [
        "own.jsonl:1: pair 1, answer is empty; expected text",
        "own.jsonl:1: pair 2, question is the number 3; expected text",
        "own.jsonl:2: text contains a tag of the synthesizer's format, such as <CON>",
        "own.jsonl:3: pair 1: the answer 'Ida' is not one of the options",
        "own.jsonl:4: pairs is a list with other things than objects; expected a list of objects",
        "own.jsonl:5: has instruction, output; expected the keys of SQuAD (paragraphs, or context with answers), "
        "HotpotQA (context of paragraphs, answer), AQuA (rationale), or text",
        "aqua.jsonl:1: correct is 'E'; expected the letter of one of 3 options",
        "aqua.jsonl:2: options is text; expected a list of texts",
        "aqua.jsonl:3: rationale is empty; expected text",
        "hotpot.jsonl:1: context, paragraph 1 is not a title and a list of sentences",
        "hotpot.jsonl:1: context is a list; expected a list of paragraphs, [title, [sentence, …]]",
    ]


def test_bad_rows_can_be_skipped_and_are_kept_as_problems(tmp_path: Path) -> None:
    path = save(tmp_path / "aqua.jsonl", AQUA, AQUA | {"question": "Other. What?", "correct": "E"})
    [data] = read_training_data([str(path)], skip_bad=True)
    assert len(data.examples) == 1
    assert [problem.place for problem in data.problems] == ["aqua.jsonl:2"]


@pytest.mark.parametrize("source", ["microworld:none", "microworld:0", "microworld-rewrites:-3"])
def test_a_count_that_is_no_positive_number_is_refused(source: str) -> None:
    with pytest.raises(UserError, match="not a positive number"):
        read_training_data([source])


def test_data_without_a_single_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text with pairs"):
        read(save(tmp_path / "own.jsonl", {"text": "Ada bakes.", "pairs": []}))
    with pytest.raises(UserError) as error:
        read(save(tmp_path / "empty.jsonl"))
    assert list(error.value.details) == ["empty.jsonl: the file has no rows"]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", "<ANS>", "A"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["text", "question", "title"]), inner, max_size=2)
    ),
    max_leaves=4,
)
OWN = {"text": "a", "pairs": [{"question": "b", "answer": "c"}], "rewrite": {"form": "d", "text": "e"}}


@given(st.data())
def test_no_row_of_any_shape_breaks_the_reader(data: st.DataObject) -> None:
    row = json.loads(json.dumps(data.draw(st.sampled_from([SQUAD["data"], HOTPOT, as_columns(HOTPOT), AQUA, OWN]))))
    spots = list(_spots(row))
    holder, key = data.draw(st.sampled_from(spots))
    holder[key] = data.draw(json_values)
    rows = row if isinstance(row, list) else [row]
    reading = _read_records("rows", iter(record_of(each, f"rows:{n}") for n, each in enumerate(rows, 1)))
    assert reading.examples or reading.problems or reading.skipped


def _spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as its container and key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _spots(inner)
