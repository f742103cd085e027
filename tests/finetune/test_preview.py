"""Preview of the data: trained tokens marked, lengths, problems."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from mlx_suite.data.batch.rows import Document
from mlx_suite.data.read.records import Problem
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.preview import findings, lenient, marked, preview, summarise
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.hub.resolve import resolve
from mlx_suite.text import Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(random_model: Path) -> Tokenizer:
    """A tokenizer in which each digit, space and plus sign is a token."""
    return load_tokenizer(random_model)


def sums(tokenizer: Tokenizer, question: str, answer: str, place: str = "") -> Document:
    """BOS, the instruction, and the trained response with its stop token."""
    before = tokenizer.encode_prompt(question)
    after = [*tokenizer.encode(answer), *tokenizer.encode_with_specials("<|eot_id|>")]
    return Document([*before, *after], [0.0] * len(before) + [1.0] * len(after), place)


def printed(documents: Sequence[Document], tokenizer: Tokenizer, width: int = 80, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    preview(documents, tokenizer, console=console, **options)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


class TestMarkedExample:
    def test_without_colour_trained_tokens_are_in_brackets(self, tokenizer: Tokenizer) -> None:
        text = marked(sums(tokenizer, "1 + 1", "2"), tokenizer, coloured=False)
        assert text.plain == "<|begin_of_text|>1 + 1⟦2<|eot_id|>⟧"
        assert text.spans == []

    def test_colours_mark_trained_and_special_tokens(self, tokenizer: Tokenizer) -> None:
        text = marked(sums(tokenizer, "1 + 1", "2"), tokenizer, coloured=True)
        assert text.plain == "<|begin_of_text|>1 + 12<|eot_id|>"
        styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
        assert styles == {
            "<|begin_of_text|>": "cyan",
            "2": "bold green",
            "<|eot_id|>": "bold green reverse",
        }

    def test_newlines_are_marked_and_control_characters_replaced(self) -> None:
        tokenizer = load_tokenizer(resolve("tiny-llama3"))
        document = Document.whole(tokenizer.encode("a\n\x1b[31mb\r"))
        assert marked(document, tokenizer, coloured=True).plain == "a↵\n␛[31mb␍"

    def test_a_long_example_is_abbreviated_in_the_middle(self, tokenizer: Tokenizer) -> None:
        text = marked(sums(tokenizer, "1" * 200, "2" * 300), tokenizer, coloured=False).plain
        assert text == f"<|begin_of_text|>{'1' * 159} … 182 more tokens … ⟦{'2' * 159}<|eot_id|>⟧"

    def test_the_first_token_is_never_trained(self, tokenizer: Tokenizer) -> None:
        assert marked(Document.whole(tokenizer.encode("12")), tokenizer, coloured=False).plain == "1⟦2⟧"


def test_a_full_preview_in_plain_text(tokenizer: Tokenizer) -> None:
    documents = [
        sums(tokenizer, "1 + 1", "2", "rows.jsonl:1"),
        sums(tokenizer, "1 + 9", "10", "rows.jsonl:2"),
        sums(tokenizer, "12 + 34 + 56", "102", "rows.jsonl:3"),
    ]
    text = printed(
        documents,
        tokenizer,
        rows=2,
        report=[("read", "rows.jsonl: 4 rows, alpaca")],
        findings=[("Rows with defects", [Problem("rows.jsonl:4", '"output" is empty')])],
    )
    assert [line.rstrip() for line in text.splitlines()] == [
        "read       rows.jsonl: 4 rows, alpaca",
        "",
        "Trained tokens are between ⟦ and ⟧; ↵ is a newline.",
        "",
        "rows.jsonl:1  8 tokens, 2 trained",
        "  <|begin_of_text|>1 + 1⟦2<|eot_id|>⟧",
        "",
        "rows.jsonl:3  17 tokens, 4 trained",
        "  <|begin_of_text|>12 + 34 + 56⟦102<|eot_id|>⟧",
        "",
        "Tokens per example",
        "   8-11  2  " + "█" * 60,
        "  12-15  0",
        "  16-23  1  " + "█" * 30,
        "",
        "lengths    median 9, 90 % up to 17, 99 % up to 17; from 8 to 17 tokens per",
        "           example",
        "trained    median 3, 90 % up to 4, 99 % up to 4; from 2 to 4 tokens per example",
        "share      26% of all tokens are trained: 9 of 34",
        "last token <|eot_id|> in every example",
        "",
        "Rows with defects",
        '  rows.jsonl:4: "output" is empty',
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(tokenizer: Tokenizer, width: int) -> None:
    documents = [
        sums(tokenizer, "1" * 40, "2" * n, f"{'folder/' * 12}rows.jsonl:{n}") for n in (1, 30, 300, 2000, 30000)
    ]
    found = [("Long", [Problem("x" * 100, "y" * 100)])]
    text = printed(documents, tokenizer, width, report=[("read", "z" * 200)], findings=found)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "30,042" in text


def test_no_color_uses_brackets_on_a_terminal_too(tokenizer: Tokenizer) -> None:
    for no_color, expected in ((True, True), (False, False)):
        console = Console(file=io.StringIO(), force_terminal=True, no_color=no_color, color_system="standard", width=80)
        preview([sums(tokenizer, "1 + 1", "2")], tokenizer, console=console)
        assert ("⟦2<|eot_id|>⟧" in console.file.getvalue()) is expected  # type: ignore[attr-defined]


def test_statistics_for_json(tokenizer: Tokenizer) -> None:
    documents = [sums(tokenizer, "1 + 1", "2"), sums(tokenizer, "1 + 9", "10"), Document.whole(tokenizer.encode("12"))]
    assert summarise(documents, tokenizer).as_dict() == {
        "examples": 3,
        "tokens": 19,
        "trained": 6,
        "trained_share": 6 / 19,
        "lengths": {"least": 2, "median": 8, "p90": 9, "p99": 9, "most": 9},
        "trained_lengths": {"least": 1, "median": 2, "p90": 3, "p99": 3, "most": 3},
        "histogram": (
            *({"first": low, "last": high, "examples": n} for low, high, n in ((2, 2, 1), (3, 3, 0), (4, 5, 0))),
            *({"first": low, "last": high, "examples": n} for low, high, n in ((6, 7, 0), (8, 11, 2))),
        ),
        "ends": {"<|eot_id|>": 2, "2": 1},
    }


def test_every_example_is_in_one_bin(tokenizer: Tokenizer) -> None:
    lengths = [1, 2, 3, 4, 7, 8, 100, 4096, 50_000]
    documents = [Document([5] * n, [0.0] + [1.0] * (n - 1)) for n in lengths if n > 1]
    histogram = summarise(documents, tokenizer).histogram
    assert sum(bin.examples for bin in histogram) == len(documents)
    assert all(later.first == bin.last + 1 for bin, later in zip(histogram, histogram[1:], strict=False))


class TestDataThatTrainingRefuses:
    """Data that training refuses can be previewed."""

    def look(self, model: Path, tmp_path: Path, **changes: Any) -> list[tuple[str, list[str]]]:
        data = tmp_path / "rows.jsonl"
        data.write_text(
            '{"prompt": "1 + 1", "completion": "2"}\n'
            '{"prompt": "1 + 1", "completion": ""}\n'
            f'{{"prompt": "1 + 1", "completion": "{"2" * 300}"}}\n'
        )
        settings = FinetuneSettings(model=str(model), data=str(data), max_length=100, **changes)
        prepared = prepare(lenient(settings))
        return [(heading, list(map(str, problems))) for heading, problems in findings(settings, prepared)]

    def test_refused_rows_are_listed(self, random_model: Path, tmp_path: Path) -> None:
        [(defects, bad), (too_long, long)] = self.look(random_model, tmp_path)
        assert defects == "Invalid rows: training refuses them without --skip-bad"
        assert bad == ['rows.jsonl:2: "completion" is empty; expected text']
        assert too_long == ("Longer than 100 tokens: training refuses them without --too-long or a larger --max-length")
        assert [line.partition(": ")[0] for line in long] == ["rows.jsonl:3"]

    def test_the_headings_say_what_the_settings_do(self, random_model: Path, tmp_path: Path) -> None:
        headings = [heading for heading, _ in self.look(random_model, tmp_path, skip_bad=True, too_long="truncate")]
        assert headings == ["Invalid rows: skipped", "Longer than 100 tokens: truncated"]


def test_a_special_token_and_its_name_in_letters_look_different() -> None:
    tokenizer = load_tokenizer(resolve("tiny-llama3"))
    stop = tokenizer.id_of("<|eot_id|>")
    assert stop is not None
    tokens = [*tokenizer.encode_prompt("Say <|eot_id|>"), stop]
    document = Document(tokens, [0.0] * (len(tokens) - 1) + [1.0])
    assert marked(document, tokenizer, coloured=False).plain == (
        "<|begin_of_text|>Say «<|eot_id|> in letters»⟦<|eot_id|>⟧"
    )
