"""Reflection with scripted models: what is kept, what is refused, and resuming an interrupted run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mlx_suite.curation.dataset import Collection, read_collection
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.engine import Sampling
from mlx_suite.magpie.reflection.judging import (
    Preference,
    RewriteComparison,
    instruction_checks,
    judge_rewrites,
    passed_share,
    response_checks,
)
from mlx_suite.magpie.reflection.outcomes import REASONS, ReflectSummary
from mlx_suite.magpie.reflection.reflection import REFUSED_FILE, REWRITES_FILE, VERDICTS_FILE, reflect
from mlx_suite.magpie.reflection.rewriting import CRITICISE, REWRITE, Rewrite, Rewriter, Work, is_unchanged
from mlx_suite.magpie.reflection.settings import ReflectSettings
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Message
from tests.magpie.scripted_chat import ScriptedChat

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
    """Index of the question that a conversation is about."""
    return next((number for number, question in enumerate(QUESTIONS) if question in text), -1)


def writes(text: str, salt: int) -> str:
    """Criticism, then by question: a better response, a worse one, the old one, and an endless one."""
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
    """Prefers the text with the word "better", and never another question's response or shuffled words."""
    first, second = _sides(text)
    value = _quality(text, first) - _quality(text, second)
    return (value, 0.0)


def _sides(text: str) -> tuple[str, str]:
    head = "### Answer" if "### Answer A" in text else "### Message"
    first, second = text.split(f"{head} A\n")[1].split(f"\n\n{head} B\n")
    return first, second.split("\n\nReply with")[0]


def _quality(text: str, side: str) -> float:
    number = number_of(text)
    if "### Answer A" in text and "Old words" in side and f"Old words {number}" not in side:
        return -2.0
    if "### Message A" in text and not side.startswith(("Better", "Bad", *QUESTIONS)):
        return -2.0
    return {"bette": 1.0, "Bette": 1.0, "Bad?": -1.0, "A bad": -1.0}.get(
        "bette" if "better" in side else side[:5].strip(), 0.0
    )


def prefers_first(text: str) -> tuple[float, float]:
    return (1.0, 0.0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(
    out: Path, settings: ReflectSettings = ANSWER, judge: Callable[[str], Any] | None = judges, **more: Any
) -> ReflectSummary:
    writer = cast(Any, ScriptedChat(writes, judge or prefers_first))
    return reflect(more.pop("data", DATA), lambda: writer, settings, out, **more)


# ---- what is kept


def test_only_a_rewrite_preferred_in_both_orders_is_kept(tmp_path: Path) -> None:
    found = run(tmp_path)
    rows, refused = lines(tmp_path / ACCEPTED_FILE), lines(tmp_path / REFUSED_FILE)
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


def test_a_changed_row_keeps_its_old_messages_and_loses_tags_and_counts_of_the_old_text(tmp_path: Path) -> None:
    run(tmp_path)
    changed, kept = lines(tmp_path / ACCEPTED_FILE)[:2]
    assert changed["before"] == {"messages": ROWS[0]["messages"]}
    assert changed["tags"] == {"category": "Math"}
    assert "answer_tokens" not in changed
    assert changed["id"] == "r-0"
    assert {**ROWS[1], "reflection": {"answer": "old"}} == kept


def test_a_new_instruction_comes_with_a_new_response(tmp_path: Path) -> None:
    found = run(tmp_path, replace(ANSWER, what="instruction"))
    rows = lines(tmp_path / ACCEPTED_FILE)
    assert rows[0]["messages"] == [
        {"role": "user", "content": "Better: who is Ben Stone of Foxley?"},
        {"role": "assistant", "content": "New answer to Better: who i"},
    ]
    assert "tags" not in rows[0]
    assert [row["reflection"]["instruction"] for row in rows] == ["both", "old", "unchanged", "preface"]
    assert [row["messages"] for row in rows[1:]] == [row["messages"] for row in ROWS[1:]]
    assert found.parts[0].trial == 1.0


def test_both_parts_are_rewritten_in_order(tmp_path: Path) -> None:
    found = run(tmp_path, BOTH)
    rows = lines(tmp_path / ACCEPTED_FILE)
    assert [part.part for part in found.parts] == ["instruction", "answer"]
    # The response to the new instruction is rewritten, not the old one.
    [first] = [each for each in lines(tmp_path / REWRITES_FILE) if each["part"] == "answer" and each["row"] == 0]
    assert first["text"] != rows[0]["messages"][0]["content"]
    assert rows[1]["messages"][0]["content"] == QUESTIONS[1]
    assert set(rows[0]["reflection"]) == {"instruction", "answer"}


def test_a_judge_that_goes_by_position_fails_its_sanity_check_and_changes_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, judge=prefers_first)
    [part] = found.parts
    assert (part.trial, part.first_place, part.kept, part.reasons["one"]) == (0.0, 1.0, 0, 2)
    assert [row["messages"] for row in lines(tmp_path / ACCEPTED_FILE)] == [row["messages"] for row in ROWS]


def test_a_judge_that_prefers_whatever_is_new_is_not_trusted(tmp_path: Path) -> None:
    def prefers_new(text: str) -> tuple[float, float]:
        first, second = _sides(text)
        return (float("Old" not in first) - float("Old" not in second), 0.0)

    found = run(tmp_path, judge=prefers_new)
    assert found.parts[0].reasons["untrusted"] == 2
    assert found.parts[0].trial == 0.0
    assert [row["messages"] for row in lines(tmp_path / ACCEPTED_FILE)] == [row["messages"] for row in ROWS]


def test_rows_without_a_response_or_refused_by_the_template_stay(tmp_path: Path) -> None:
    rows = (
        *ROWS,
        {"messages": [{"role": "user", "content": "And you?"}]},
        {"messages": [{"role": "user", "content": "refuse this"}, {"role": "assistant", "content": "No."}]},
    )
    run(tmp_path, data=Collection(name="more", rows=rows))
    assert [row["reflection"]["answer"] for row in lines(tmp_path / ACCEPTED_FILE)[4:]] == ["no_answer", "template"]


def test_every_outcome_has_an_explanation(tmp_path: Path) -> None:
    found = run(tmp_path, BOTH)
    assert all(reason in REASONS for part in found.parts for reason in part.reasons)
    assert json.dumps(found.as_dict())


def test_the_output_can_be_read_as_a_dataset(tmp_path: Path) -> None:
    run(tmp_path)
    assert [row["id"] for row in read_collection(tmp_path).rows] == ["r-0", "r-1", "r-2", "r-3"]


# ---- resuming


@pytest.mark.parametrize("stop", range(1, 22, 3))
def test_an_interrupted_run_resumes_and_ends_with_the_same_rows(tmp_path: Path, stop: int) -> None:
    run(tmp_path / "uninterrupted", BOTH)
    calls = 0

    def on_progress(step: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", BOTH, on_progress=on_progress)
    assert not (tmp_path / "out" / ACCEPTED_FILE).exists()
    run(tmp_path / "out", BOTH)
    for name in (ACCEPTED_FILE, REFUSED_FILE):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "uninterrupted" / name).read_bytes()


def test_finished_rewrites_and_judgements_are_reused(tmp_path: Path) -> None:
    run(tmp_path, replace(ANSWER, what="instruction", limit=2))
    run(tmp_path, BOTH)
    before = [(tmp_path / name).read_bytes() for name in (REWRITES_FILE, VERDICTS_FILE)]
    writer = ScriptedChat(writes, judges)
    reflect(DATA, lambda: cast(Any, writer), BOTH, tmp_path)
    assert writer.written == 0
    assert [(tmp_path / name).read_bytes() for name in (REWRITES_FILE, VERDICTS_FILE)] == before


def test_another_judge_judges_again_and_only_one_model_is_loaded_at_a_time(tmp_path: Path) -> None:
    run(tmp_path)
    opened: list[str] = []

    def open_writer() -> Any:
        opened.append("writer")
        return ScriptedChat(writes, judges)

    def open_judge() -> Any:
        opened.append("judge")
        return ScriptedChat(writes, prefers_first, name="other")

    found = reflect(DATA, open_writer, ANSWER, tmp_path, open_judge)
    assert (found.writer, found.judge, found.parts[0].kept) == ("scripted", "other", 0)
    assert opened == ["writer", "judge"]
    opened.clear()
    reflect(DATA, open_writer, BOTH, tmp_path / "both", open_judge)
    assert opened == ["writer", "judge", "writer", "judge"]


@pytest.mark.parametrize("name", [REWRITES_FILE, VERDICTS_FILE])
def test_a_malformed_line_of_a_journal_is_reported_with_its_number(tmp_path: Path, name: str) -> None:
    run(tmp_path)
    count = len(lines(tmp_path / name))
    with (tmp_path / name).open("a") as file:
        file.write('{"key": "0"}\n')
    with pytest.raises(UserError) as caught:
        run(tmp_path)
    assert caught.value.where == f"{tmp_path / name}:{count + 1}"


def test_other_settings_are_refused_and_listed(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(UserError) as caught:
        run(tmp_path, replace(ANSWER, temperature=1.0, max_answer=61))
    assert caught.value.details == ("temperature: was 0.0, now 1.0", "answer: was 60, now 61")


def test_all_invalid_settings_are_reported_in_one_error() -> None:
    with pytest.raises(UserError) as caught:
        ReflectSettings(what="all", temperature=-1.0, max_criticism=0, limit=0)
    assert [detail.partition(" ")[0] for detail in caught.value.details] == [
        "what",
        "temperature",
        "max_criticism",
        "limit",
    ]


# ---- rewriting


def rewritten(says: Callable[[str, int], str], part: Any = "answer", question: str = "Who is Ben?") -> Rewrite:
    limits = {"criticism": 40, "instruction": 60, "answer": 60}
    rewriter = Rewriter(
        chat=cast(Any, ScriptedChat(says)), part=part, sampling=Sampling(temperature=0.0), limits=limits, seed=0
    )
    work = Work(row=0, question=(Message("system", "Be brief."), Message("user", question)), answer="A nurse.")
    [found] = rewriter.rewrite([work])
    return found


def test_the_entire_last_turn_is_the_rewrite() -> None:
    """Magpie's notebooks search for markers, and keep a single letter if that fails."""
    texts: list[str] = []

    def says(text: str, salt: int) -> str:
        texts.append(text)
        return "Say more." if len(texts) == 1 else "[New Answer] He is a nurse. [End]"

    assert rewritten(says) == Rewrite(
        row=0, text="[New Answer] He is a nurse. [End]", answer="", criticism="Say more.", problem=None
    )
    start = "[system] Be brief.|[user] Who is Ben?|[assistant] A nurse."
    assert texts == [
        f"{start}|[user] {CRITICISE['answer']}|[assistant] ",
        f"{start}|[user] {CRITICISE['answer']}|[assistant] Say more.|[user] {REWRITE['answer']}|[assistant] ",
    ]


def test_a_new_instruction_gets_its_response_in_a_separate_conversation() -> None:
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
def test_an_unusable_rewrite_has_a_problem(part: str, texts: tuple[str, ...], problem: str | None) -> None:
    left = list(texts)
    assert rewritten(lambda text, salt: left.pop(0), part).problem == problem
    assert not left


def test_a_near_identical_instruction_is_unchanged_but_one_word_changes_a_response() -> None:
    long = "Please write a story of a fox and a hen who live on a farm in the hills"
    assert is_unchanged(long, long.replace("hills", "mountains"), "instruction")
    assert not is_unchanged(long, "Write a story of a wolf and a goat", "instruction")
    assert not is_unchanged("The sum of 3 and 4 is 8.", "The sum of 3 and 4 is 7.", "answer")
    assert is_unchanged("The sum is **7**.", "the sum is 7", "answer")


# ---- judging


def test_both_orders_are_judged_with_the_texts_inserted_verbatim() -> None:
    prompts: list[str] = []

    def prefers(text: str) -> tuple[float, float]:
        prompts.append(text)
        return (-1.0, -3.0)

    comparison = RewriteComparison(row=4, old="{first} old", new="new {question}", question="What is {second}?")
    [preference] = judge_rewrites(cast(Any, ScriptedChat(lambda text, salt: "", prefers)), [comparison])
    assert preference == Preference(row=4, first=2.0, second=-2.0)
    assert (preference.outcome, preference.first_places) == ("one", 2)
    assert [_sides(text) for text in prompts] == [("new {question}", "{first} old"), ("{first} old", "new {question}")]
    assert all("### The message\nWhat is {second}?\n" in text for text in prompts)


@pytest.mark.parametrize(
    ("first", "second", "outcome", "places"),
    [(1.0, 1.0, "both", 1), (-1.0, -1.0, "old", 1), (1.0, -1.0, "one", 2), (-1.0, 1.0, "one", 0), (0.0, 1.0, "one", 0)],
)
def test_the_outcome_follows_from_both_orders(first: float, second: float, outcome: str, places: int) -> None:
    preference = Preference(row=0, first=first, second=second)
    assert (preference.outcome, preference.first_places) == (outcome, places)


def test_a_prompt_longer_than_the_context_is_not_judged() -> None:
    assert Preference(row=0, first=None, second=1.0).outcome == "unasked"
    assert passed_share([Preference(row=0, first=None, second=None)]) is None


def test_the_sanity_check_needs_no_labels() -> None:
    checks = response_checks([("Who?", "Ben."), ("Where?", "Here."), ("When?", "here")])
    assert [(each.question, each.old, each.new) for each in checks] == [
        ("Who?", "Ben.", "Here."),
        ("When?", "here", "Ben."),
    ]
    [check] = instruction_checks(["Who is it?", "Name the river of the town"])
    assert (check.row, sorted(check.new.split())) == (1, sorted(check.old.split()))
    assert check.new != check.old
    assert passed_share([Preference(row=0, first=-1.0, second=-1.0), Preference(row=1, first=1.0, second=1.0)]) == 0.5
