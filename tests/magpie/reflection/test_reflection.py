"""Reflection told by scripted authors: what comes in, what stays out, and what a stopped run goes on from."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mlx_suite.curation.collection import Collection, read_collection
from mlx_suite.engine import Sampling
from mlx_suite.magpie.reflection.judging import Contest, Verdict, judge_contests
from mlx_suite.magpie.reflection.reflect_settings import ReflectSettings
from mlx_suite.magpie.reflection.reflected import REASONS, Reflected
from mlx_suite.magpie.reflection.reflection import REFUSED_FILE, REWRITES_FILE, ROWS_FILE, VERDICTS_FILE, reflect
from mlx_suite.magpie.reflection.rewriting import CRITICISE, REWRITE, Rewrite, Rewriter, Work, is_unchanged
from mlx_suite.magpie.reflection.trial import answer_trial, instruction_trial, passed_share
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message
from tests.magpie.told import Told

QUESTIONS = ("Who is Ben Stone?", "Where is the river Fenna?", "What does Karin eat?", "How old is the tower?")
ROWS = tuple(
    {
        "id": f"r-{number}",
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": f"Old words {number}."}],
        "answer_tokens": 3,
        "tags": {"category": "Math", "answer_quality": "good"},
    }
    for number, question in enumerate(QUESTIONS)
)
DATA = Collection(name="data", rows=ROWS)
ANSWER = ReflectSettings(what="answer", max_criticism=60, max_instruction=60, max_answer=60)
BOTH = replace(ANSWER, what="both")


def number_of(text: str) -> int:
    """Which question a conversation is about."""
    return next((number for number, question in enumerate(QUESTIONS) if question in text), -1)


def writes(text: str, salt: int) -> str:
    """Criticism, then for the questions in turn: a better answer, a worse one, the old one, and an endless one."""
    if text.endswith(f"[user] {CRITICISE['answer']}|[assistant] "):
        return "It is too short."
    if text.endswith(f"[user] {REWRITE['answer']}|[assistant] "):
        return ("A much better one", "A bad one", "old  words 2", "word " * 50)[number_of(text)]
    if text.endswith(f"[user] {CRITICISE['instruction']}|[assistant] "):
        return "It is vague."
    if text.endswith(f"[user] {REWRITE['instruction']}|[assistant] "):
        return ("Better: who is Ben Stone of Foxley?", "Bad?", "What does Karin eat!", "Sure! Here is the list.")[
            number_of(text)
        ]
    assert text.count("[user]") == 1, text
    return f"New answer to {text[7:20]}"


def judges(text: str) -> tuple[float, float]:
    """Prefers what says better, and what is no other question's answer and not in disorder."""
    first, second = _sides(text)
    value = _worth(text, first) - _worth(text, second)
    return (value, 0.0)


def _sides(text: str) -> tuple[str, str]:
    head = "### Answer" if "### Answer A" in text else "### Message"
    first, second = text.split(f"{head} A\n")[1].split(f"\n\n{head} B\n")
    return first, second.split("\n\nReply with")[0]


def _worth(text: str, said: str) -> float:
    number = number_of(text)
    if "### Answer A" in text and "Old words" in said and f"Old words {number}" not in said:
        return -2.0
    if "### Message A" in text and not said.startswith(("Better", "Bad", *QUESTIONS)):
        return -2.0
    return {"bette": 1.0, "Bette": 1.0, "Bad?": -1.0, "A bad": -1.0}.get(
        "bette" if "better" in said else said[:5].strip(), 0.0
    )


def goes_by_place(text: str) -> tuple[float, float]:
    return (1.0, 0.0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(
    out: Path, settings: ReflectSettings = ANSWER, judge: Callable[[str], Any] | None = judges, **more: Any
) -> Reflected:
    writer = cast(Any, Told(writes, judge or goes_by_place))
    return reflect(more.pop("data", DATA), lambda: writer, settings, out, **more)


# ---- what comes in


def test_only_what_is_better_from_both_places_comes_in(tmp_path: Path) -> None:
    found = run(tmp_path)
    rows, refused = lines(tmp_path / ROWS_FILE), lines(tmp_path / REFUSED_FILE)
    assert [row["messages"][-1]["content"] for row in rows] == [
        "A much better one",
        "Old words 1.",
        "Old words 2.",
        "Old words 3.",
    ]
    assert [row["reflection"] for row in rows] == [
        {"answer": "both"},
        {"answer": "old"},
        {"answer": "unchanged"},
        {"answer": "text_limit"},
    ]
    assert [(each["row"], each["reason"], each["odds"]) for each in refused] == [
        (1, "old", [-1.0, -1.0]),
        (2, "unchanged", None),
        (3, "text_limit", None),
    ]
    assert refused[0]["text"] == "A bad one"
    assert refused[0]["criticism"] == "It is too short."
    [part] = found.parts
    assert (part.kept, part.judged, part.trial, part.first_place) == (1, 2, 1.0, 0.5)
    assert part.reasons == {"both": 1, "old": 1, "unchanged": 1, "text": 1}


def test_a_changed_row_keeps_what_it_was_and_loses_what_was_said_of_the_old_text(tmp_path: Path) -> None:
    run(tmp_path)
    changed, kept = lines(tmp_path / ROWS_FILE)[:2]
    assert changed["before"] == {"messages": ROWS[0]["messages"]}
    assert changed["tags"] == {"category": "Math"}
    assert "answer_tokens" not in changed
    assert changed["id"] == "r-0"
    assert {**ROWS[1], "reflection": {"answer": "old"}} == kept


def test_a_new_instruction_comes_with_a_new_answer(tmp_path: Path) -> None:
    found = run(tmp_path, replace(ANSWER, what="instruction"))
    rows = lines(tmp_path / ROWS_FILE)
    assert rows[0]["messages"] == [
        {"role": "user", "content": "Better: who is Ben Stone of Foxley?"},
        {"role": "assistant", "content": "New answer to Better: who i"},
    ]
    assert "tags" not in rows[0]
    assert [row["reflection"]["instruction"] for row in rows] == ["both", "old", "unchanged", "preface"]
    assert [row["messages"] for row in rows[1:]] == [row["messages"] for row in ROWS[1:]]
    assert found.parts[0].trial == 1.0


def test_both_parts_follow_each_other(tmp_path: Path) -> None:
    found = run(tmp_path, BOTH)
    rows = lines(tmp_path / ROWS_FILE)
    assert [part.part for part in found.parts] == ["instruction", "answer"]
    # The answer to the new instruction is looked at, not the old one.
    [first] = [each for each in lines(tmp_path / REWRITES_FILE) if each["part"] == "answer" and each["row"] == 0]
    assert first["text"] != rows[0]["messages"][0]["content"]
    assert rows[1]["messages"][0]["content"] == QUESTIONS[1]
    assert set(rows[0]["reflection"]) == {"instruction", "answer"}


def test_a_judge_that_goes_by_the_place_fails_its_trial_and_changes_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, judge=goes_by_place)
    [part] = found.parts
    assert (part.trial, part.first_place, part.kept, part.reasons["one"]) == (0.0, 1.0, 0, 2)
    assert [row["messages"] for row in lines(tmp_path / ROWS_FILE)] == [row["messages"] for row in ROWS]


def test_a_judge_that_likes_whatever_is_new_is_not_trusted(tmp_path: Path) -> None:
    def likes_the_new(text: str) -> tuple[float, float]:
        first, second = _sides(text)
        return (float("Old" not in first) - float("Old" not in second), 0.0)

    found = run(tmp_path, judge=likes_the_new)
    assert found.parts[0].reasons["untrusted"] == 2
    assert found.parts[0].trial == 0.0
    assert [row["messages"] for row in lines(tmp_path / ROWS_FILE)] == [row["messages"] for row in ROWS]


def test_rows_without_an_answer_and_those_the_template_refuses_stay(tmp_path: Path) -> None:
    rows = (
        *ROWS,
        {"messages": [{"role": "user", "content": "And you?"}]},
        {"messages": [{"role": "user", "content": "refuse this"}, {"role": "assistant", "content": "No."}]},
    )
    run(tmp_path, data=Collection(name="more", rows=rows))
    assert [row["reflection"]["answer"] for row in lines(tmp_path / ROWS_FILE)[4:]] == ["no_answer", "template"]


def test_every_outcome_can_be_said(tmp_path: Path) -> None:
    found = run(tmp_path, BOTH)
    assert all(reason in REASONS for part in found.parts for reason in part.reasons)
    assert json.dumps(found.as_dict())


def test_what_is_kept_can_be_read_as_a_dataset(tmp_path: Path) -> None:
    run(tmp_path)
    assert [row["id"] for row in read_collection(tmp_path).rows] == ["r-0", "r-1", "r-2", "r-3"]


# ---- stopped and continued


@pytest.mark.parametrize("stop", range(1, 22, 3))
def test_a_run_stopped_anywhere_goes_on_and_ends_with_the_same_rows(tmp_path: Path, stop: int) -> None:
    run(tmp_path / "whole", BOTH)
    told = 0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        told += 1
        if told == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", BOTH, tell=tell)
    assert not (tmp_path / "out" / ROWS_FILE).exists()
    run(tmp_path / "out", BOTH)
    for name in (ROWS_FILE, REFUSED_FILE):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_is_written_and_judged_is_not_asked_for_again(tmp_path: Path) -> None:
    run(tmp_path, replace(ANSWER, what="instruction", limit=2))
    run(tmp_path, BOTH)
    before = [(tmp_path / name).read_bytes() for name in (REWRITES_FILE, VERDICTS_FILE)]
    writer = Told(writes, judges)
    reflect(DATA, lambda: cast(Any, writer), BOTH, tmp_path)
    assert writer.written == 0
    assert [(tmp_path / name).read_bytes() for name in (REWRITES_FILE, VERDICTS_FILE)] == before


def test_another_judge_judges_anew_and_only_one_model_is_held(tmp_path: Path) -> None:
    run(tmp_path)
    opened: list[str] = []

    def open_writer() -> Any:
        opened.append("writer")
        return Told(writes, judges)

    def open_judge() -> Any:
        opened.append("judge")
        return Told(writes, goes_by_place, name="other")

    found = reflect(DATA, open_writer, ANSWER, tmp_path, open_judge)
    assert (found.writer, found.judge, found.parts[0].kept) == ("told", "other", 0)
    assert opened == ["writer", "judge"]
    opened.clear()
    reflect(DATA, open_writer, BOTH, tmp_path / "both", open_judge)
    assert opened == ["writer", "judge", "writer", "judge"]


@pytest.mark.parametrize("name", [REWRITES_FILE, VERDICTS_FILE])
def test_an_edited_journal_is_named_by_its_line(tmp_path: Path, name: str) -> None:
    run(tmp_path)
    count = len(lines(tmp_path / name))
    with (tmp_path / name).open("a") as file:
        file.write('{"key": "0"}\n')
    with pytest.raises(UserError) as caught:
        run(tmp_path)
    assert caught.value.where == f"{tmp_path / name}:{count + 1}"


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(UserError) as caught:
        run(tmp_path, replace(ANSWER, temperature=1.0, max_answer=61))
    assert caught.value.details == ("temperature: 0.0 in the folder, 1.0 now", "answer: 60 in the folder, 61 now")


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        ReflectSettings(what="all", temperature=-1.0, max_criticism=0, limit=0)
    assert [detail.partition(" ")[0] for detail in caught.value.details] == [
        "what",
        "temperature",
        "max_criticism",
        "limit",
    ]


# ---- writing anew


def rewritten(says: Callable[[str, int], str], part: Any = "answer", question: str = "Who is Ben?") -> Rewrite:
    limits = {"criticism": 40, "instruction": 60, "answer": 60}
    rewriter = Rewriter(
        author=cast(Any, Told(says)), part=part, sampling=Sampling(temperature=0.0), limits=limits, seed=0
    )
    work = Work(row=0, question=(Message("system", "Be brief."), Message("user", question)), answer="A nurse.")
    [found] = rewriter.rewrite([work])
    return found


def test_the_whole_of_the_last_turn_is_the_new_text() -> None:
    """The notebooks look for marks, and where they fail keep one letter."""
    texts: list[str] = []

    def says(text: str, salt: int) -> str:
        texts.append(text)
        return "Say more." if len(texts) == 1 else "[New Answer] He is a nurse. [End]"

    assert rewritten(says) == Rewrite(
        row=0, text="[New Answer] He is a nurse. [End]", answer="", criticism="Say more.", problem=None
    )
    said = "[system] Be brief.|[user] Who is Ben?|[assistant] A nurse."
    assert texts == [
        f"{said}|[user] {CRITICISE['answer']}|[assistant] ",
        f"{said}|[user] {CRITICISE['answer']}|[assistant] Say more.|[user] {REWRITE['answer']}|[assistant] ",
    ]


def test_a_new_instruction_is_answered_in_a_conversation_of_its_own() -> None:
    texts: list[str] = []

    def says(text: str, salt: int) -> str:
        texts.append(text)
        return ("Vague.", "Which job has Ben Stone of Foxley?", "He is a nurse.")[len(texts) - 1]

    found = rewritten(says, "instruction")
    assert (found.text, found.answer, found.problem) == ("Which job has Ben Stone of Foxley?", "He is a nurse.", None)
    assert texts[2] == "[system] Be brief.|[user] Which job has Ben Stone of Foxley?|[assistant] "


@pytest.mark.parametrize(
    ("part", "texts", "problem"),
    [
        ("answer", ("x" * 50,), "criticism_limit"),
        ("answer", ("",), "criticism_empty"),
        ("answer", ("x", "y" * 70), "text_limit"),
        ("answer", ("x", " "), "text_empty"),
        ("answer", ("x", "a nurse!"), "unchanged"),
        ("answer", ("x", "Here is a better answer: He is a nurse."), "preface"),
        ("answer", ("x", "You're right, he is a nurse."), "preface"),
        ("instruction", ("x", "who is ben"), "unchanged"),
        ("instruction", ("x", "Sure! Here is a better message: Who is Ben?"), "preface"),
        ("instruction", ("x", "Which job has Ben?", "z" * 70), "answer_limit"),
        ("instruction", ("x", "refuse this"), "template"),
        ("answer", ("x", "The better answer is that he is a nurse."), None),
        ("answer", ("x", "A new version of the song was sung by Ben."), None),
    ],
)
def test_a_text_that_cannot_be_used_says_why(part: str, texts: tuple[str, ...], problem: str | None) -> None:
    left = list(texts)
    assert rewritten(lambda text, salt: left.pop(0), part).problem == problem
    assert not left


def test_near_identical_instructions_are_unchanged_and_one_right_word_is_a_change_of_an_answer() -> None:
    long = "Please write a story of a fox and a hen who live on a farm in the hills"
    assert is_unchanged(long, long.replace("hills", "mountains"), "instruction")
    assert not is_unchanged(long, "Write a story of a wolf and a goat", "instruction")
    assert not is_unchanged("The sum of 3 and 4 is 8.", "The sum of 3 and 4 is 7.", "answer")
    assert is_unchanged("The sum is **7**.", "the sum is 7", "answer")


# ---- judging


def test_both_orders_are_asked_and_stand_for_themselves() -> None:
    asked: list[str] = []

    def prefers(text: str) -> tuple[float, float]:
        asked.append(text)
        return (-1.0, -3.0)

    contest = Contest(row=4, old="{first} old", new="new {question}", question="What is {second}?")
    [verdict] = judge_contests(cast(Any, Told(lambda text, salt: "", prefers)), [contest])
    assert verdict == Verdict(row=4, first=2.0, second=-2.0)
    assert (verdict.outcome, verdict.first_places) == ("one", 2)
    assert [_sides(text) for text in asked] == [("new {question}", "{first} old"), ("{first} old", "new {question}")]
    assert all("### The message\nWhat is {second}?\n" in text for text in asked)


@pytest.mark.parametrize(
    ("first", "second", "outcome", "places"),
    [(1.0, 1.0, "both", 1), (-1.0, -1.0, "old", 1), (1.0, -1.0, "one", 2), (-1.0, 1.0, "one", 0), (0.0, 1.0, "one", 0)],
)
def test_outcomes(first: float, second: float, outcome: str, places: int) -> None:
    verdict = Verdict(row=0, first=first, second=second)
    assert (verdict.outcome, verdict.first_places) == (outcome, places)


def test_what_has_no_room_is_not_asked() -> None:
    assert Verdict(row=0, first=None, second=1.0).outcome == "unasked"
    assert passed_share([Verdict(row=0, first=None, second=None)]) is None


def test_a_trial_needs_no_labels() -> None:
    contests = answer_trial([("Who?", "Ben."), ("Where?", "Here."), ("When?", "here")])
    assert [(each.question, each.old, each.new) for each in contests] == [
        ("Who?", "Ben.", "Here."),
        ("When?", "here", "Ben."),
    ]
    [contest] = instruction_trial(["Who is it?", "Name the river of the town"])
    assert (contest.row, sorted(contest.new.split())) == (1, sorted(contest.old.split()))
    assert contest.new != contest.old
    assert passed_share([Verdict(row=0, first=-1.0, second=-1.0), Verdict(row=1, first=1.0, second=1.0)]) == 0.5
