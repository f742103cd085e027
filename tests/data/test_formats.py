"""Reading rows of every format, and all problems they can have."""

from typing import Any

import pytest

from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import FORMATS, detect, fold_tools, read_example, renamed, unknown_format
from mlx_suite.data.read.records import Problem, Record
from mlx_suite.text import Message


def example(format: str, row: dict[str, Any] | str) -> Example:
    found = read_example(Record("a.jsonl:1", row), FORMATS[format])
    assert isinstance(found, Example), found
    assert found.place == "a.jsonl:1"
    return found


def faults(format: str, row: dict[str, Any] | str) -> list[str]:
    found = read_example(Record("a.jsonl:1", row), FORMATS[format])
    assert isinstance(found, tuple), found
    assert {problem.place for problem in found} == {"a.jsonl:1"}
    return [problem.what for problem in found]


def openai(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def sharegpt(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": content} for role, content in turns]}


QUESTION, ANSWER = ("user", "Why?"), ("assistant", "So.")


class TestMessages:
    def test_turns_are_kept_unchanged_and_in_order(self) -> None:
        row = openai(("system", "Be brief."), QUESTION, ANSWER, ("user", " <|eot_id|>\n"), ("assistant", "- No.\n"))
        assert example("messages", row | {"id": "5d-000012", "seed": 7}).messages == (
            Message("system", "Be brief."),
            Message("user", "Why?"),
            Message("assistant", "So."),
            Message("user", " <|eot_id|>\n"),
            Message("assistant", "- No.\n"),
        )

    def test_a_response_can_be_marked_as_untrained(self) -> None:
        turns = [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Dunno.", "weight": 0},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because.", "train": False},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "So.", "weight": 1, "train": None},
        ]
        read = example("messages", {"messages": turns}).messages
        assert [message.trained for message in read] == [True, False, True, False, True, True]

    def test_a_weight_between_0_and_1_is_a_problem(self) -> None:
        turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So.", "weight": 0.5}]
        assert faults("messages", {"messages": turns}) == ['turn 2, "weight" is the number 0.5; expected 0 or 1']

    def test_text_parts_are_joined_and_other_parts_rejected(self) -> None:
        parts = [{"type": "text", "text": "Why"}, {"type": "text", "text": "oh why?"}]
        assert example("messages", openai(("user", parts), ANSWER)).messages[0].content == "Why\noh why?"
        picture = [{"type": "image_url", "image_url": {"url": "a.png"}}]
        assert faults("messages", openai(("user", picture), ANSWER)) == [
            'turn 1, "content" has a part of type image_url; expected text, or parts {"type": "text", "text": …}'
        ]

    def test_json_in_a_cell_is_read(self) -> None:
        cell = '[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]'
        assert example("messages", {"messages": cell}) == example("messages", openai(QUESTION, ANSWER))
        [fault] = faults("messages", {"messages": "[{'role': 'user'}]"})
        assert fault.startswith('"messages" is text, but not JSON (Expecting property name enclosed in double quotes')

    def test_an_empty_system_prompt_counts_as_missing(self) -> None:
        assert example("messages", openai(("system", " "), QUESTION, ANSWER)).messages[0].role == "user"

    def test_consecutive_turns_of_one_role_are_left_to_the_template(self) -> None:
        assert len(example("messages", openai(QUESTION, QUESTION, ANSWER)).messages) == 3

    def test_a_longer_conversation_may_begin_with_a_response(self) -> None:
        assert len(example("messages", openai(("assistant", "Hello!"), QUESTION, ANSWER)).messages) == 3

    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            (
                openai(QUESTION, ("robot", "So.")),
                ["unknown \"role\" 'robot'; expected system, user, assistant or tool"],
            ),
            (openai(QUESTION, ("asistant", "So.")), ["unknown \"role\" 'asistant'; did you mean assistant?"]),
            (openai(QUESTION, (None, "So.")), ['turn 2 has no role; expected {"role": …, "content": …}']),
            (openai(("user", ""), ANSWER), ['turn 1, "content" is empty; expected text']),
            (openai(("user", "Why?"), ("assistant", None)), ['turn 2, "content" is null; expected text']),
            (openai(("user", 7), ANSWER), ['turn 1, "content" is the number 7; expected text']),
            (
                openai(QUESTION, ("assistant", "None")),
                ["turn 2, \"content\" is 'None', which programs write for a missing value; expected a response"],
            ),
            (
                openai(QUESTION, ("assistant", "a\ud83d")),
                ["turn 2, \"content\" contains half of a surrogate pair, '\\ud83d', which no tokenizer can encode"],
            ),
            (openai(QUESTION), ["there is no assistant turn; expected a response to learn"]),
            (openai(ANSWER), ["there is nothing before the response; expected an instruction"]),
            (
                openai(QUESTION, ANSWER, QUESTION),
                ["ends with a user turn; expected a response at the end"],
            ),
            (
                openai(QUESTION, ANSWER, ("tool", "4")),
                ["ends with a tool result; expected a response at the end"],
            ),
            (
                openai(QUESTION, ("system", "Be brief."), ANSWER),
                ["turn 2: the system prompt is not first; expected it before all other turns"],
            ),
            ({"messages": []}, ['"messages" is empty; expected a list of turns']),
            ({"messages": "{}"}, ['"messages" is an object; expected a list of turns']),
            ({"messages": ["Why?"]}, ['turn 1 is text; expected {"role": …, "content": …}']),
            (
                {"messages": [{"from": "human", "value": "Why?"}]},
                ['turn 1 has no role; expected {"role": …, "content": …}, found "from", "value"'],
            ),
            (
                {"prompt": "Why?"},
                ['expected messages, {"messages": [{"role": …, "content": …}, …]}; found the keys "prompt"'],
            ),
        ],
    )
    def test_a_problem_is_reported_with_what_was_expected(self, row: dict[str, Any], expected: list[str]) -> None:
        found = faults("messages", row)
        assert len(found) == len(expected)
        assert all(part in fault for part, fault in zip(expected, found, strict=True)), found

    def test_all_problems_of_a_row_are_reported_together(self) -> None:
        assert faults("messages", openai(("user", ""), ("robot", "So."), ("assistant", None))) == [
            'turn 1, "content" is empty; expected text',
            "turn 2: unknown \"role\" 'robot'; expected system, user, assistant or tool",
            'turn 3, "content" is null; expected text',
        ]


class TestTools:
    CALL = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}},
            {"id": "c2", "type": "function", "function": {"name": "clock", "arguments": {}}},
        ],
    }
    TURNS = [
        {"role": "user", "content": "Is it raining?"},
        CALL,
        {"role": "tool", "name": "weather", "content": "4 °C, rain"},
        {"role": "tool", "content": "12:30"},
        {"role": "assistant", "content": "It is."},
    ]

    def test_calls_and_results_are_kept_as_text(self) -> None:
        assert example("messages", {"messages": self.TURNS}).messages == (
            Message("user", "Is it raining?"),
            Message(
                "assistant", '{"name": "weather", "arguments": {"city": "Köln"}}\n{"name": "clock", "arguments": {}}'
            ),
            Message("tool", "weather: 4 °C, rain"),
            Message("tool", "12:30"),
            Message("assistant", "It is."),
        )

    def test_tool_definitions_are_appended_to_the_system_prompt(self) -> None:
        tools = [{"name": "weather"}, {"name": "clock"}]
        text = 'Tools:\n{"name": "weather"}\n{"name": "clock"}'
        assert example("messages", {"messages": self.TURNS, "tools": tools}).messages[0] == Message("system", text)
        with_system = [{"role": "system", "content": "Be brief."}, *self.TURNS]
        first = example("messages", {"messages": with_system, "tools": '[{"name": "weather"}, {"name": "clock"}]'})
        assert first.messages[0] == Message("system", "Be brief.\n\n" + text)

    def test_for_templates_without_tools_results_become_one_user_turn(self) -> None:
        folded = fold_tools(example("messages", {"messages": self.TURNS}).messages)
        assert [message.role for message in folded] == ["user", "assistant", "user", "assistant"]
        assert folded[2] == Message("user", "[tool] weather: 4 °C, rain\n\n[tool] 12:30")

    def test_without_tools_nothing_is_folded(self) -> None:
        messages = [Message("user", "Why?"), Message("user", "Oh why?"), Message("assistant", "So.")]
        assert fold_tools(messages) == messages

    def test_a_user_turn_after_a_result_is_merged_with_it(self) -> None:
        messages = [Message("tool", "12:30"), Message("user", "And now?")]
        assert fold_tools(messages) == [Message("user", "[tool] 12:30\n\nAnd now?")]


class TestShareGpt:
    def test_its_many_role_names_mean_three_roles(self) -> None:
        row = sharegpt(
            ("system", "Be brief."),
            ("human", "1"),
            ("gpt", "2"),
            ("user", "3"),
            ("Bing", "4"),
            ("human", "5"),
            ("bard", "6"),
        )
        assert [(message.role, message.content) for message in example("sharegpt", row).messages] == [
            ("system", "Be brief."),
            ("user", "1"),
            ("assistant", "2"),
            ("user", "3"),
            ("assistant", "4"),
            ("user", "5"),
            ("assistant", "6"),
        ]

    def test_a_system_prompt_outside_the_turns_comes_first(self) -> None:
        row = sharegpt(("human", "Why?"), ("gpt", "So.")) | {"system": "Be brief."}
        assert example("sharegpt", row).messages[0] == Message("system", "Be brief.")

    def test_two_different_system_prompts_are_a_problem(self) -> None:
        row = sharegpt(("system", "Be brief."), ("human", "Why?"), ("gpt", "So.")) | {"system": "Be long."}
        assert faults("sharegpt", row) == [
            'two different system prompts, in "system" and in the first turn; expected one'
        ]

    def test_openai_role_names_are_accepted_too(self) -> None:
        row = {"conversations": openai(QUESTION, ANSWER)["messages"]}
        assert example("sharegpt", row) == example("messages", openai(QUESTION, ANSWER))

    def test_consecutive_turns_of_one_role_are_a_problem(self) -> None:
        row = sharegpt(("human", "Why?"), ("human", "Oh why?"), ("gpt", "So."), ("gpt", "So!"))
        assert faults("sharegpt", row) == [
            "turns 1 and 2 both have the role user; roles must alternate",
            "turns 3 and 4 both have the role assistant; roles must alternate",
        ]

    def test_an_unknown_role_is_a_problem(self) -> None:
        assert faults("sharegpt", sharegpt(("human", "Why?"), ("narrator", "So."))) == [
            "turn 2: unknown \"from\" 'narrator'; expected human, gpt, system or tool"
        ]


class TestAlpaca:
    def test_the_input_is_the_context_of_the_instruction(self) -> None:
        assert example("alpaca", {"instruction": "Sum up.", "input": "A long text.", "output": "Short."}) == Example(
            messages=(Message("user", "Sum up."), Message("assistant", "Short.")),
            context="A long text.",
            place="a.jsonl:1",
        )

    @pytest.mark.parametrize("row", [{"input": ""}, {"input": None}, {}])
    def test_without_an_input_there_is_no_context(self, row: dict[str, Any]) -> None:
        assert example("alpaca", {"instruction": "Why?", "output": "So."} | row).context == ""

    def test_dollys_keys_are_accepted(self) -> None:
        row = {"instruction": "Sum up.", "context": "A long text.", "response": "Short.", "system": "Be brief."}
        read = example("alpaca", row)
        assert read.context == "A long text."
        assert [message.content for message in read.messages] == ["Be brief.", "Sum up.", "Short."]

    def test_problems_name_their_keys(self) -> None:
        row = {"instruction": " ", "input": ["A"], "output": None, "history": "Who?"}
        assert faults("alpaca", row) == [
            '"instruction" is empty; expected text',
            '"input" is a list; expected text',
            '"output" is null; expected text',
            '"history" is not a list of pairs; expected [[instruction, response], …]',
        ]


class TestCompletion:
    @pytest.mark.parametrize(
        ("question", "answer"),
        [("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("query", "response")],
    )
    def test_a_pair_is_an_instruction_and_a_response(self, question: str, answer: str) -> None:
        assert example("completion", {question: "Why?", answer: "So.", "id": 7}).messages == (
            Message("user", "Why?"),
            Message("assistant", "So."),
        )

    def test_spellings_of_a_missing_value_are_not_a_response(self) -> None:
        assert faults("completion", {"prompt": "Why?", "completion": "nan"}) == [
            "\"completion\" is 'nan', which programs write for a missing value; expected a response"
        ]
        assert faults("completion", {"prompt": "Why?", "completion": float("nan")}) == [
            '"completion" is the number nan; expected text'
        ]


class TestText:
    def test_text_is_kept_as_text(self) -> None:
        assert example("text", {"text": "Once upon"}) == Example(text="Once upon", place="a.jsonl:1")
        assert example("text", "Once upon") == Example(text="Once upon", place="a.jsonl:1")

    def test_missing_text_is_a_problem(self) -> None:
        assert faults("text", {"text": ""}) == ['"text" is empty; expected text']
        assert faults("text", {"text": None}) == ['"text" is null; expected text']

    def test_a_text_file_has_no_conversation(self) -> None:
        assert faults("alpaca", "Once upon") == [
            'expected alpaca, {"instruction": …, "input": …, "output": …}; found plain text'
        ]


class TestDetect:
    def records(self, *rows: dict[str, Any] | str) -> list[Record]:
        return [Record("a", row) for row in rows]

    @pytest.mark.parametrize(
        ("name", "row"),
        [
            ("messages", openai(QUESTION, ANSWER) | {"prompt": "Why?", "completion": "So."}),
            ("messages", {"messages": "[]", "instruction_reason": "stop"}),
            ("sharegpt", sharegpt(("human", "Why?")) | {"instruction": "Why?", "response": "So."}),
            ("alpaca", {"instruction": "Why?", "input": "", "output": "So.", "text": "Why? So."}),
            ("completion", {"question": "Why?", "answer": None}),
            ("text", {"text": "Once upon", "messages": None, "meta": {}}),
            ("text", "Once upon"),
        ],
    )
    def test_a_row_is_recognised_by_its_keys(self, name: str, row: dict[str, Any] | str) -> None:
        assert detect(self.records(row)) == FORMATS[name]

    def test_the_majority_of_rows_decides_not_the_first(self) -> None:
        rows = self.records({"text": "Once"}, {"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"})
        assert detect(rows) == FORMATS["completion"]

    def test_rows_without_known_keys_have_no_format(self) -> None:
        rows = self.records({"prompt": "a", "score": "b", "kind": "c"})
        assert detect(rows) is None
        assert unknown_format(rows).startswith('no known format: found the keys "prompt", "score", "kind"; expected')

    def test_preference_rows_are_explained(self) -> None:
        rows = self.records({"prompt": "a", "chosen": "b", "rejected": "c"})
        assert detect(rows) is None
        assert unknown_format(rows).startswith("these are preference rows (chosen, rejected)")


def test_prompt_and_completion_may_be_lists_of_turns() -> None:
    before = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    asked = {"role": "user", "content": "2+2?"}
    row = {"prompt": [*before, asked], "completion": [{"role": "assistant", "content": "4"}]}
    read = read_example(Record("rows.jsonl:1", row), FORMATS["completion"])
    assert isinstance(read, Example)
    assert [(turn.content, turn.trained) for turn in read.messages] == [
        ("1+1?", True),
        ("2", False),
        ("2+2?", True),
        ("4", True),
    ]


def test_a_column_is_read_under_the_name_that_is_given() -> None:
    record = Record("qa.csv:2", {"Question": "a", "Answer": "b"})
    assert renamed(record, {"instruction": "Question", "output": "Answer"}) == Record(
        "qa.csv:2", {"instruction": "a", "output": "b"}
    )
    assert renamed(record, {"instruction": "Frage"}) == Problem(
        "qa.csv:2", 'no column Frage; found the keys "Question", "Answer"'
    )


def test_preference_rows_are_recognised() -> None:
    record = Record("rows.jsonl:1", {"prompt": "Q", "chosen": "good", "rejected": "bad"})
    assert unknown_format([record]) == (
        "these are preference rows (chosen, rejected), and finetuning learns one response to a prompt; "
        "--column completion=chosen trains on the chosen ones"
    )
    taken = renamed(record, {"completion": "chosen"})
    assert isinstance(taken, Record)
    assert isinstance(read_example(taken, FORMATS["completion"]), Example)
