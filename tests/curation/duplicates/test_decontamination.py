"""Decontamination: shared runs of words that reveal an evaluation item, and the files it is read from."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.curation.duplicates.decontamination import Contamination
from mlx_suite.runtime.errors import UserError

LONG = "A farmer keeps hens and cows, which together have seventy heads and two hundred legs. How many hens are there?"
MIDDLE = "How many bones does an adult human being have?"


def known(*items: str) -> Contamination:
    contamination = Contamination()
    for number, item in enumerate(items, start=1):
        contamination.add(item, f"test.jsonl:{number}")
    return contamination


def test_a_shared_run_of_13_words_reveals_a_long_item() -> None:
    contamination = known(LONG)
    run = "hens and cows, which together have seventy heads and two hundred legs. How"
    assert contamination.hit(f"Think hard. {run} would you go about it?") == "test.jsonl:1"
    assert contamination.hit(run.removeprefix("hens ")) is None


def test_a_shared_run_of_8_words_reveals_an_item_of_8_to_12_words() -> None:
    contamination = known(MIDDLE)
    assert contamination.hit("Tell me: how many bones does an adult human being possess?") is not None
    assert contamination.hit("How many bones does an adult human have?") is None


def test_a_short_item_must_be_contained_completely() -> None:
    contamination = known("What is the capital of France?")
    assert contamination.hit("What is the capital of France, and how large is it?") is not None
    assert contamination.hit("What is the capital of Spain?") is None
    assert contamination.hit("The capital of France is what?") is None


def test_an_item_of_one_or_two_words_must_equal_the_text() -> None:
    contamination = known("Say hello.")
    assert contamination.hit("say hello") == "test.jsonl:1"
    assert contamination.hit("Say hello to my friends.") is None


def test_case_layout_punctuation_and_emphasis_are_ignored() -> None:
    contamination = known(LONG, MIDDLE, "What is the capital of France?")
    assert contamination.hit(LONG.upper().replace(" ", "\n  ").replace(",", "")) == "test.jsonl:1"
    assert contamination.hit("HOW many bones... does an **adult human** being have") == "test.jsonl:2"
    assert contamination.hit("what is the capital of **France**") == "test.jsonl:3"


def test_symbols_distinguish_short_items() -> None:
    contamination = known("Solve for x: 3 + x = 4")
    assert contamination.hit("solve for x: 3+x=4.") is not None
    assert contamination.hit("Solve for x: 3 - x = 4") is None


def test_runs_of_numbers_are_ignored() -> None:
    contamination = known("Which of these numbers are even? " + " ".join(map(str, range(1, 31))))
    assert contamination.hit("Add up " + " ".join(map(str, range(1, 31)))) is None


def test_scripts_without_spaces_need_longer_runs() -> None:
    item = "小明有十二个苹果,他给了小红三个,又从商店买了五个新的苹果,请问小明现在一共有多少个苹果呢,请写出步骤"
    contamination = known(item, "日本の首都はどこですか")
    assert contamination.hit("请回答:" + item) == "test.jsonl:1"
    assert contamination.hit("小明有十二个苹果,他给了小红三个,然后吃了一个,剩下几个?") is None
    assert contamination.hit("日本の首都はどこですか?教えて") == "test.jsonl:2"


def test_the_first_of_two_places_is_reported() -> None:
    assert known(MIDDLE, MIDDLE).hit(MIDDLE) == "test.jsonl:1"


def test_all_formats_are_read_and_places_are_lines(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": MIDDLE}, {"role": "assistant", "content": "Yes"}]},
        {"messages": [{"role": "user", "content": "Go on"}, {"role": "assistant", "content": LONG}]},
    ]
    messages = tmp_path / "messages.jsonl"
    messages.write_text("".join(json.dumps(row) + "\n" for row in rows))
    alpaca = tmp_path / "alpaca.json"
    alpaca.write_text(
        json.dumps([{"instruction": "Sum it up.", "input": "The bridge stays shut until spring.", "output": "No"}])
    )
    unknown = tmp_path / "quiz.csv"
    unknown.write_text("number,puzzle\n4,Which river runs through the city of Cairo?\n")
    contamination = Contamination.from_files([messages, alpaca, unknown])
    assert contamination.hit(MIDDLE) == "messages.jsonl:1"
    assert contamination.hit(LONG) == "messages.jsonl:2"
    assert contamination.hit("Yes") is None
    assert contamination.hit("Go on.") == "messages.jsonl:2"
    assert contamination.hit("He says the bridge stays shut until spring.") == "alpaca.json, row 1"
    assert contamination.hit("Which river runs through the city of Cairo?") == "quiz.csv:2"


def test_each_line_of_a_text_file_is_an_item_and_runs_continue_across_lines(tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text(
        "# Questions\n\n- Name the longest river of Asia.\nA farmer keeps hens\nand cows, which together\n"
        "have seventy heads and\ntwo hundred legs. How many\nhens are there?\n"
    )
    contamination = Contamination.from_files([notes])
    assert contamination.hit("Please name the longest river of Asia") == "notes.md:3"
    assert contamination.hit(LONG) == "notes.md:4"


def test_all_files_of_a_folder_are_read(tmp_path: Path) -> None:
    for name, text in (("train.jsonl", MIDDLE), ("other.jsonl", LONG)):
        (tmp_path / name).write_text(json.dumps({"instruction": text, "output": "It is so."}) + "\n")
    contamination = Contamination.from_files([tmp_path])
    assert contamination.hit(MIDDLE) == "train.jsonl:1"
    assert contamination.hit(LONG) == "other.jsonl:1"


def test_all_unreadable_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "broken.jsonl").write_text('{"instruction": "Say hello.", "output": "Hello."}\n{"instruction": \n')
    with pytest.raises(UserError) as caught:
        Contamination.from_files([tmp_path / "empty.txt", tmp_path / "broken.jsonl", tmp_path / "none.json"])
    message = str(caught.value)
    assert "empty.txt: it contains no words" in message
    assert "broken.jsonl:2: column" in message
    assert "none.json: there is no such file or folder" in message


def test_the_same_evaluation_may_be_given_twice(tmp_path: Path) -> None:
    (tmp_path / "quiz.txt").write_text(MIDDLE)
    contamination = Contamination.from_files([tmp_path / "quiz.txt", tmp_path / "quiz.txt"])
    assert contamination.hit(MIDDLE) == "quiz.txt:1"


WORDS = st.lists(st.text("abcxyz", min_size=1, max_size=3), max_size=30).map(" ".join)


@given(WORDS, WORDS, WORDS)
def test_an_item_is_found_in_any_surrounding_text(item: str, before: str, after: str) -> None:
    contamination = known(item)
    text = f"{before}, {item}; {after}." if len(item.split()) >= 4 else item
    assert contamination.hit(text) == ("test.jsonl:1" if item else None)
