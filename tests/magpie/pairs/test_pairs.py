"""Preference pairs of a random model: the files, the grades, and resuming an interrupted run."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.curation.dataset import Collection, read_collection
from mlx_suite.data.questions import QUESTIONS_FILE, write_questions
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.engine import Engine
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.magpie.pairs import pairs
from mlx_suite.magpie.pairs.answers import make_grader
from mlx_suite.magpie.pairs.pairs import ANSWERS_FILE, REFUSED_FILE, make_pairs
from mlx_suite.magpie.pairs.scorers import Scorer, difference_scorer, likelihood_scorer, reward_scorer
from mlx_suite.magpie.pairs.settings import PairSettings
from mlx_suite.magpie.stage import prompt_of
from mlx_suite.runtime.errors import UserError
from tests.magpie.conftest import QUESTIONS, Loaded

SMALL = PairSettings(answers=3, max_answer=16, margin=0.05)
ROWS = (
    {"id": "x-1", "messages": [{"role": "user", "content": "ab?"}, {"role": "assistant", "content": "a"}]},
    {
        "messages": [
            {"role": "system", "content": "c"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c a?"},
            {"role": "assistant", "content": "c"},
        ],
        "tags": {"category": "v", "answer_quality": "good"},
    },
    {"messages": [{"role": "user", "content": "cab"}]},
    {"messages": [{"role": "user", "content": "b b b"}, {"role": "assistant", "content": ""}]},
)
MORE = tuple({"messages": [{"role": "user", "content": text}]} for text in ("a", "b", "c", "a b", "b c?", "c a"))
DATA = Collection(name="data", rows=(*ROWS, *MORE))
WRITTEN = 3 * len(DATA.rows)


def by_length(conversations: Sequence[Any]) -> list[float | None]:
    return [float(len(each[-1]["content"].strip("?"))) for each in conversations]


def letters(conversations: Sequence[Any]) -> list[float | None]:
    """Scores responses that begin with a or b higher."""
    return [float(each[-1]["content"][0] in "ab") for each in conversations]


LETTERS = Scorer(kind="reward", name="letters", score=letters)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def chat(checkpoint: Loaded, tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    folder = tmp_path_factory.mktemp("model")
    write_questions(QUESTIONS, folder / QUESTIONS_FILE)
    facts = {"model": checkpoint.model, "tokenizer": checkpoint.tokenizer, "template": checkpoint.template}
    return ChatModel(**facts, name="random", folder=folder, slots=4).with_fixed_date()


@pytest.fixture(autouse=True)
def uncompiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Disables compilation: each new kernel takes a second."""
    import mlx.core as mx

    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture(scope="module")
def uninterrupted(chat: ChatModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "out"
    make_pairs(DATA, chat, SMALL, folder, LETTERS)
    return folder


def same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in (ACCEPTED_FILE, REFUSED_FILE))


def test_a_pair_is_an_instruction_with_two_of_its_responses(uninterrupted: Path) -> None:
    pairs, refused = lines(uninterrupted / ACCEPTED_FILE), lines(uninterrupted / REFUSED_FILE)
    answers = {(each["row"], each["number"]): each["text"] for each in lines(uninterrupted / ANSWERS_FILE)}
    assert len(answers) == WRITTEN
    assert sorted(each["row"] for each in [*pairs, *refused]) == list(range(len(DATA.rows)))
    assert pairs
    for pair in pairs:
        own = {answers[pair["row"], number] for number in range(3)}
        assert {pair["chosen"], pair["rejected"]} <= own
        assert (pair["chosen"][0] in "ab", pair["rejected"][0] in "ab") == (True, False)
        assert (pair["chosen_score"], pair["rejected_score"], pair["scored_by"]) == (1.0, 0.0, "reward letters")
        assert len(pair["answer_scores"]) == 3
        assert pair["messages"] == [
            {"role": turn.role, "content": turn.content} for turn in prompt_of(DATA.rows[pair["row"]])
        ]
        assert pair["id"] == DATA.rows[pair["row"]].get("id", str(pair["row"]))
        assert "answer_quality" not in pair.get("tags", {})


def test_pairs_can_be_read_as_a_dataset(uninterrupted: Path) -> None:
    read = read_collection(uninterrupted)
    pairs = lines(uninterrupted / ACCEPTED_FILE)
    assert [row["chosen"] for row in read.rows] == [pair["chosen"] for pair in pairs]
    assert [row["messages"][-1]["content"] for row in read.rows] == [pair["chosen"] for pair in pairs]


def test_responses_do_not_depend_on_the_number_of_slots(chat: ChatModel, uninterrupted: Path, tmp_path: Path) -> None:
    make_pairs(DATA, replace(chat, slots=1), SMALL, tmp_path / "one", LETTERS)
    assert same(tmp_path / "one", uninterrupted)


def test_an_interrupted_run_resumes_and_ends_with_the_same_pairs(
    chat: ChatModel, uninterrupted: Path, tmp_path: Path
) -> None:
    for count in (0, 1, 5):
        folder = tmp_path / str(count)

        def stop(done: int, total: int, count: int = count) -> None:
            if done > count:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_pairs(DATA, chat, SMALL, folder, LETTERS, stop)
        assert not (folder / ACCEPTED_FILE).exists()
        with (folder / ANSWERS_FILE).open("a") as file:
            file.write('{"row": 3, "numb')  # a line torn by a kill
        calls: list[tuple[int, int]] = []
        make_pairs(DATA, chat, SMALL, folder, LETTERS, lambda done, total: calls.append((done, total)))  # noqa: B023
        assert same(folder, uninterrupted)
        assert (calls[0], calls[-1]) == ((count + 1, WRITTEN), (WRITTEN, WRITTEN))


def test_more_responses_more_rows_or_another_margin_sample_only_what_is_missing(
    chat: ChatModel, uninterrupted: Path, tmp_path: Path
) -> None:
    make_pairs(DATA, chat, replace(SMALL, answers=2, limit=2), tmp_path, LETTERS)
    assert len(lines(tmp_path / ANSWERS_FILE)) == 4
    make_pairs(DATA, chat, replace(SMALL, margin=2.0), tmp_path, LETTERS)
    assert lines(tmp_path / ACCEPTED_FILE) == []
    written = lines(tmp_path / ANSWERS_FILE)
    assert len(written) == WRITTEN
    summary = make_pairs(DATA, chat, SMALL, tmp_path, LETTERS)
    assert lines(tmp_path / ANSWERS_FILE) == written
    assert same(tmp_path, uninterrupted)
    assert (summary.pairs, summary.rows, summary.answers) == (
        len(lines(uninterrupted / ACCEPTED_FILE)),
        len(DATA.rows),
        WRITTEN,
    )


def test_a_higher_limit_resamples_only_truncated_responses(
    chat: ChatModel, uninterrupted: Path, tmp_path: Path
) -> None:
    make_pairs(DATA, chat, replace(SMALL, max_answer=3), tmp_path, LETTERS)
    cut = sum(each["flaw"] == "limit" for each in lines(tmp_path / ANSWERS_FILE))
    assert 0 < cut < WRITTEN
    make_pairs(DATA, chat, SMALL, tmp_path, LETTERS)
    assert len(lines(tmp_path / ANSWERS_FILE)) == WRITTEN + cut
    assert same(tmp_path, uninterrupted)
    make_pairs(DATA, chat, replace(SMALL, max_answer=3), tmp_path, LETTERS)
    assert len(lines(tmp_path / ANSWERS_FILE)) == WRITTEN + cut


def test_a_scorer_of_length_alone_gives_one_pair_at_most(chat: ChatModel, tmp_path: Path) -> None:
    rows = tuple({"messages": [{"role": "user", "content": f"{'abc'[i % 3] * (i // 3 + 1)}?"}]} for i in range(20))
    scorer = Scorer(kind="reward", name="length", score=by_length)
    summary = make_pairs(Collection(name="many", rows=rows), chat, SMALL, tmp_path, scorer)
    assert summary.pairs <= 1
    assert summary.explained is not None
    assert summary.explained > 0.9


def test_own_grades_are_expectations_over_the_labels(chat: ChatModel, tmp_path: Path) -> None:
    grader = make_grader(chat)
    assert grader is not None
    summary = make_pairs(DATA, chat, replace(SMALL, margin=0.001), tmp_path)
    assert (summary.scored_by, summary.kind) == ("grade random", "grade")
    for answer in lines(tmp_path / ANSWERS_FILE):
        assert (answer["grade"] is None) == (answer["flaw"] is not None)
        assert answer["grade"] is None or 0 < answer["grade"] < 1
    # Other scorers reuse graded responses; responses without a grade are sampled again if grades are needed.
    make_pairs(DATA, chat, SMALL, tmp_path, LETTERS)
    assert len(lines(tmp_path / ANSWERS_FILE)) == WRITTEN
    make_pairs(DATA, chat, SMALL, tmp_path / "other", LETTERS)
    assert {answer["graded"] for answer in lines(tmp_path / "other" / ANSWERS_FILE)} == {False}
    make_pairs(DATA, chat, replace(SMALL, margin=0.001), tmp_path / "other")
    assert len(lines(tmp_path / "other" / ANSWERS_FILE)) == 2 * WRITTEN


def test_log_probability_scorers_score_finished_responses(chat: ChatModel) -> None:
    conversations = [
        [{"role": "user", "content": "ab?"}, {"role": "assistant", "content": text}] for text in ("a", "?")
    ]
    likely = likelihood_scorer(chat).score(conversations)
    assert all(score is not None and score < 0 for score in likely)
    assert likely[0] != likely[1]
    assert difference_scorer(chat, chat.model).score(conversations) == pytest.approx([0.0, 0.0], abs=1e-5)
    unanswered = [[{"role": "user", "content": "ab?"}]]
    assert likelihood_scorer(chat).score(unanswered) == [None]


def test_a_reward_model_scores_what_its_template_and_context_allow(chat: ChatModel) -> None:
    def judge(tokens: Any, lengths: Any) -> Any:
        return lengths

    conversations = [
        [{"role": "user", "content": "ab?"}, {"role": "assistant", "content": text}] for text in ("a", "a b")
    ]
    conversations.append([{"role": "user", "content": "ab?"}, {"role": "assistant", "content": "a" * 300}])
    scores = reward_scorer(judge, chat).score(conversations)  # type: ignore[arg-type]
    assert scores[0] is not None
    assert scores[1] == scores[0] + 2
    assert scores[2] is None


def test_a_conversation_that_the_template_refuses_is_reported(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChatModel, "prompt", lambda self, turns: None if len(turns) > 1 else (1, 2))
    summary = make_pairs(DATA, chat, SMALL, tmp_path, LETTERS)
    assert [each["reason"] for each in lines(tmp_path / REFUSED_FILE) if each["row"] == 1] == ["template"]
    assert summary.answers == WRITTEN - 3


def test_a_malformed_line_of_the_journal_is_reported_with_its_number(chat: ChatModel, tmp_path: Path) -> None:
    make_pairs(DATA, chat, replace(SMALL, limit=1), tmp_path, LETTERS)
    with (tmp_path / ANSWERS_FILE).open("a") as file:
        file.write('{"row": 0, "number": 0}\n')
    with pytest.raises(UserError) as caught:
        make_pairs(DATA, chat, SMALL, tmp_path, LETTERS)
    assert caught.value.where.endswith(f"{ANSWERS_FILE}:4")


def test_responses_are_scored_in_chunks(
    chat: ChatModel, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "SCORED", 2)
    sizes: list[int] = []

    def score(conversations: Sequence[Any]) -> list[float | None]:
        sizes.append(len(conversations))
        return letters(conversations)

    make_pairs(DATA, chat, SMALL, tmp_path, replace(LETTERS, score=score))
    assert max(sizes) == 2
    assert same(tmp_path, uninterrupted)


def test_other_settings_and_other_folders_are_refused(chat: ChatModel, tmp_path: Path) -> None:
    make_pairs(DATA, chat, replace(SMALL, limit=1), tmp_path / "out", LETTERS)
    with pytest.raises(UserError) as caught:
        make_pairs(DATA, chat, replace(SMALL, seed=1, temperature=0.5), tmp_path / "out", LETTERS)
    assert caught.value.details == (
        "sampling.temperature: was 0.8, now 0.5",
        "seed: was 0, now 1",
    )
    other = Collection(name="other", rows=ROWS[:2])
    with pytest.raises(UserError) as caught:
        make_pairs(other, chat, SMALL, tmp_path / "out", LETTERS)
    assert [detail.partition(":")[0] for detail in caught.value.details] == ["data"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "accepted.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"The folder holds 'accepted.jsonl' but no settings.json"):
        make_pairs(DATA, chat, SMALL, tmp_path / "mine", LETTERS)
    assert (tmp_path / "mine" / "accepted.jsonl").read_text() == "{}\n"
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["accepted.jsonl"]


def test_a_folder_with_half_written_settings_can_be_used(chat: ChatModel, tmp_path: Path) -> None:
    (tmp_path / ".settings.json.partial-1234").write_text('{"kind": "mlx-s')
    make_pairs(DATA, chat, replace(SMALL, limit=1), tmp_path, LETTERS)
    assert (tmp_path / ACCEPTED_FILE).exists()


def test_all_invalid_settings_are_reported_in_one_error() -> None:
    with pytest.raises(UserError) as caught:
        PairSettings(answers=1, temperature=0.0, top_p=0.0, max_answer=0, margin=0.0, limit=0)
    assert [detail.partition(" ")[0] for detail in caught.value.details] == [
        "answers",
        "temperature",
        "top_p",
        "max_answer",
        "margin",
        "limit",
    ]


def test_prompts_are_prefilled_once_for_all_their_responses(
    chat: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[Engine] = []
    begin = Engine.__init__

    def recorded(self: Engine, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        engines.append(self)

    monkeypatch.setattr(Engine, "__init__", recorded)
    make_pairs(DATA, chat, replace(SMALL, answers=6), tmp_path, LETTERS)
    prompts = [chat.prompt(prompt_of(row)) for row in DATA.rows]
    assert engines[0].stats.prefilled <= sum(len(prompt) - 1 for prompt in prompts if prompt is not None)
