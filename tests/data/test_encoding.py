"""Loss masks: responses and their stop tokens are trained, and are known from the rendering."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.data.encode.encoding import TRAIN_ON, encode_all
from mlx_suite.data.encode.styles import STYLES
from mlx_suite.data.example import Example
from mlx_suite.data.read.formats import FORMATS, read_example
from mlx_suite.data.read.records import Record
from mlx_suite.finetune.settings import CHOICES
from mlx_suite.hub.resolve import resolve
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import ChatTemplate, Message, encode_chat, load_chat_template, load_tokenizer
from tests.data.story import FAMILIES, Families, document, encoded, problem, said, shown, trained
from tests.text.conftest import Family

CHAT_STOPS = {
    "llama3": "<|eot_id|>",
    "llama31": "<|eot_id|>",
    "gemma2": "<end_of_turn>",
    "mistral": "</s>",
    "phi3": "<|end|>",
    "qwen2": "<|im_end|>",
    "qwen25": "<|im_end|>",
}
"""Stop token that each template writes after a response."""
TEXT_STOPS = CHAT_STOPS | {"gemma2": "<eos>", "phi3": "<|endoftext|>"}
"""EOS token of each tokenizer."""

EXCHANGES = said("S: Be brief.", "U: What is it?", "A: The fox.", "U: And this?", "A: The lazy dog.")


def with_template(one: Family, source: str) -> Family:
    template = ChatTemplate(source=source, special_tokens=one.tokenizer.settings.roles)
    return Family(folder=one.folder, tokenizer=one.tokenizer, template=template)


def test_train_on_has_the_choices_of_the_settings() -> None:
    assert set(TRAIN_ON) == set(CHOICES["train_on"])


class TestWhatIsTrained:
    """With Gemma's template, which writes a newline after its stop token."""

    @pytest.fixture
    def gemma(self, family: Families) -> Family:
        return family("gemma2")

    def test_assistant_trains_every_response_and_its_stop_token(self, gemma: Family) -> None:
        made = document(gemma, said("U: a", "A: b", "U: c", "A: d"), train_on="assistant")
        assert shown(made, gemma.tokenizer) == (
            "<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n[b<end_of_turn>]\n"
            "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n[d<end_of_turn>]\n"
        )

    def test_last_trains_only_the_last_response(self, gemma: Family) -> None:
        made = document(gemma, said("U: a", "A: b", "U: c", "A: d"), train_on="last")
        assert shown(made, gemma.tokenizer) == (
            "<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
            "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n[d<end_of_turn>]\n"
        )

    def test_all_trains_everything_between_bos_and_the_last_stop_token(self, gemma: Family) -> None:
        made = document(gemma, said("U: a", "A: b"), train_on="all")
        assert shown(made, gemma.tokenizer) == (
            "<bos>[<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>]\n"
        )

    def test_a_response_marked_as_untrained_is_context_only(self, gemma: Family) -> None:
        made = document(gemma, said("U: a", "A: b", "U: c", "A: d", untrained=[1]))
        assert shown(made, gemma.tokenizer).endswith("b<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n"
                                                     "<start_of_turn>model\n[d<end_of_turn>]\n")  # fmt: skip

    def test_plain_text_is_trained_in_full_with_a_stop_token(self, gemma: Family) -> None:
        made = document(gemma, Example(text="The fox.", place="a.txt"))
        assert shown(made, gemma.tokenizer) == "<bos>[The fox.<eos>]"

    def test_without_bos_the_first_token_is_not_trained(self, family: Families) -> None:
        one = family("qwen2")
        made = document(one, Example(text="fox", place="a.txt"))
        assert one.tokenizer.decode(made.tokens, skip_special=False) == "fox<|im_end|>"
        assert list(made.weights) == [0.0] + [1.0] * (len(made) - 1)


class TestTheStopToken:
    @pytest.mark.parametrize("train_on", TRAIN_ON)
    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("name", FAMILIES)
    def test_it_is_the_last_trained_token(self, family: Families, name: str, style: str, train_on: str) -> None:
        one = family(name)
        stop = one.tokenizer.id_of((CHAT_STOPS if style == "chat" else TEXT_STOPS)[name])
        learned = trained(document(one, EXCHANGES, style, train_on))
        assert learned[-1] == stop
        assert learned.count(stop) >= (1 if train_on == "last" else 2)

    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("name", ["tiny-llama3", "tiny-gemma2"])
    def test_the_shipped_models_stop_at_it(self, name: str, style: str) -> None:
        folder = resolve(name)
        one = Family(folder=folder, tokenizer=load_tokenizer(folder), template=load_chat_template(folder))
        learned = trained(document(one, EXCHANGES, style))
        assert learned[-1] in one.tokenizer.stop_ids
        assert sum(token in one.tokenizer.special_ids for token in learned) == 2

    def test_it_is_appended_if_the_template_does_not_write_it(self, family: Families) -> None:
        source = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
        one = with_template(family("llama3"), source)
        made = document(one, said("U: a", "A: b", "U: c", "A: d"))
        # The template has no generation prompt, so the model must write "assistant:" itself. The newline comes before
        # the stop token: if it were not trained, the model would never reach the stop token.
        assert shown(made, one.tokenizer) == (
            "<|begin_of_text|>user:a\n[assistant:b]\nuser:c\n[assistant:d\n<|eot_id|>]"
        )

    def test_a_marker_that_opens_the_next_turn_is_not_mistaken_for_it(self, family: Families) -> None:
        source = "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}{% endfor %}"
        one = with_template(family("llama3"), source)
        made = document(one, said("U: a", "A: b", "U: c", "A: d"))
        assert shown(made, one.tokenizer) == (
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>a[<|start_header_id|>assistant<|end_header_id|>b]"
            "<|start_header_id|>user<|end_header_id|>c[<|start_header_id|>assistant<|end_header_id|>d<|eot_id|>]"
        )


class TestNothingToTrainOn:
    """Examples without a trained token are reported as problems."""

    @pytest.fixture
    def llama(self, family: Families) -> Family:
        return family("llama3")

    def test_a_response_that_the_template_trims_to_nothing(self, llama: Family) -> None:
        expected = "rows.jsonl:1: nothing to train on: the response is empty"
        for style in ("chat", "alpaca", "phi3"):
            assert problem(llama, said("U: Hi", "A:  \n"), style) == expected

    def test_responses_that_are_marked_as_untrained(self, llama: Family) -> None:
        example = said("U: a", "A: b", "U: c", "A: d", untrained=[1, 3])
        assert problem(llama, example) == ("rows.jsonl:1: nothing to train on: every response is marked as untrained")
        example = said("U: a", "A: b", "U: c", "A: d", untrained=[3])
        assert problem(llama, example, train_on="last") == (
            "rows.jsonl:1: nothing to train on: the last response is marked as untrained"
        )

    def test_a_conversation_without_a_response(self, llama: Family) -> None:
        assert problem(llama, said("U: a")) == "rows.jsonl:1: nothing to train on: there is no assistant turn"

    def test_an_empty_text(self, llama: Family) -> None:
        assert problem(llama, Example(text="", place="a.txt")) == "a.txt: nothing to train on: the text is empty"

    def test_the_other_examples_stay_in_order(self, llama: Family) -> None:
        found = encoded(llama, said("U: a", "A: b"), said("U: a", "A:  "), said("U: c", "A: d"))
        assert [llama.tokenizer.decode(trained(one)) for one in found.documents] == ["b", "d"]
        assert len(found.problems) == 1


def test_a_conversation_that_the_template_rejects_is_a_problem_of_its_row(family: Families) -> None:
    example = said("U: a", "A: b", "A: c")
    assert problem(family("gemma2"), example) == (
        "rows.jsonl:1: the chat template rejects this conversation (user, assistant, assistant): Roles must alternate"
    )


def test_a_broken_template_is_one_error_not_one_per_row(family: Families) -> None:
    one = with_template(family("llama3"), "{% for %}")
    with pytest.raises(UserError, match="not valid Jinja"):
        encoded(one, said("U: a", "A: b"), said("U: c", "A: d"))


# ---- properties of any conversation

CONTENT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.lists(
    st.sampled_from(["<|eot_id|>", "<end_of_turn>", "<eos>", "[INST]", " ", "\n", "hi", "the fox"]), max_size=5
).map("".join)
ANSWER = CONTENT.filter(lambda text: text.strip())


@settings(max_examples=60, deadline=None)
@given(turns=st.lists(st.tuples(CONTENT, ANSWER), min_size=1, max_size=3), system=CONTENT)
def test_the_trained_tokens_are_the_responses_and_their_stop_tokens(
    family: Families, turns: list[tuple[str, str]], system: str
) -> None:
    messages = [Message("system", system)] if system.strip() else []
    for question, answer in turns:
        messages += [Message("user", question), Message("assistant", answer)]
    for name in ("llama3", "gemma2"):
        one = family(name)
        for style in ("chat", "alpaca", "phi3"):
            stop = (CHAT_STOPS if style == "chat" else TEXT_STOPS)[name]
            learned = trained(document(one, Example(messages=tuple(messages)), style))
            expected = "".join(answer.strip() + stop for _, answer in turns)
            assert one.tokenizer.decode(learned, skip_special=False) == expected
            assert sum(token in one.tokenizer.special_ids for token in learned) == len(turns)


@settings(max_examples=40, deadline=None)
@given(turns=st.lists(st.tuples(CONTENT, ANSWER), min_size=1, max_size=3))
def test_tokens_equal_the_rendered_chat_for_every_train_on(family: Families, turns: list[tuple[str, str]]) -> None:
    messages = [Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)]
    for name in FAMILIES:
        one = family(name)
        rendered = encode_chat(one.tokenizer, one.template, messages).ids
        for train_on in TRAIN_ON:
            found = encode_all(
                [Example(messages=tuple(messages))],
                style="chat",
                tokenizer=one.tokenizer,
                template=one.template,
                train_on=train_on,
            )
            assert [list(made.tokens) for made in found.documents] == [rendered]


def test_the_first_token_of_a_response_may_include_a_space_of_the_template(family: Families) -> None:
    # Mistral's template writes a space before a response, which becomes one token with the first word.
    one = family("mistral")
    made = document(one, said("U: Hi", "A: The fox"))
    first = next(place for place, weight in enumerate(made.weights) if weight)
    assert made.tokens[first - 1] == one.tokenizer.id_of("[/INST]")
    assert one.tokenizer.token_of(made.tokens[first]).startswith("▁")


def test_documents_have_the_place_of_their_row(byte_folder: Path) -> None:
    one = Family(folder=byte_folder, tokenizer=load_tokenizer(byte_folder), template=load_chat_template(byte_folder))
    assert document(one, said("U: a", "A: b")).place == "rows.jsonl:1"


@pytest.mark.parametrize("form", ["messages", "tools"])
def test_a_turn_of_weight_0_is_context_when_everything_is_trained(family: Families, form: str) -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0},
        {"role": "user", "content": "c", "weight": 0},
        {"role": "assistant", "content": "d", "weight": 1},
    ]
    definition = {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {}}}
    row = {"messages": turns} | ({"tools": [definition]} if form == "tools" else {})
    example = read_example(Record("rows.jsonl:1", row), FORMATS["messages"])
    assert isinstance(example, Example)
    one = family("qwen3")
    text = shown(document(one, example, train_on="all"), one.tokenizer)
    _, first, rest = text.partition("user\na<|im_end|>")
    assert first and rest == (
        "\n<|im_start|>assistant\n]b<|im_end|>[\n<|im_start|>user\n]c<|im_end|>[\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\nd<|im_end|>]\n"
    )


def test_all_obeys_weight_0_in_a_text_style(family: Families) -> None:
    one = family("llama3")
    made = document(one, said("U: a", "A: b", "U: c", "A: d", untrained=[1]), style="plain", train_on="all")
    assert shown(made, one.tokenizer) == "<|begin_of_text|>[a]b<|eot_id|>[\n\ncd<|eot_id|>]"
