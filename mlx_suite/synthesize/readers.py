"""Training data of a synthesizer: texts with questions about them, read from datasets of several shapes.

SQuAD       articles with paragraphs and questions, or the hub's rows of context, question, answers
HotpotQA    question, answer, context of titled paragraphs; the supporting sentences become the reasoning
AQuA        question, options, rationale, correct
own         {"text": …, "pairs": [{"question": …, "answer": …, "options": […], "reasoning": …}]}
microworld  `microworld`, `microworld:COUNT`: passages of the microworld with pairs of all kinds;
            `microworld-rewrites`, `microworld-rewrites:COUNT`: the same rewritten in other forms

All pairs of one text become one example, however many rows of the file they are spread over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlx_suite.data.read.records import (
    Faults,
    Problem,
    Record,
    described,
    optional_text,
    refusal,
    required_text,
)
from mlx_suite.data.read.sources import TEST, UNUSED, VALID, find_files, read_records
from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.aqua import read_aqua
from mlx_suite.synthesize.format import Example, Pair, Rewrite, contains_tags
from mlx_suite.synthesize.worlds import is_world, read_world

SHAPES = (
    "SQuAD (paragraphs, or context with answers), HotpotQA (context of paragraphs, answer), AQuA (rationale), or text"
)


@dataclass(frozen=True, kw_only=True)
class PlacedExample:
    """An example and where it was read."""

    example: Example
    place: str
    """`file:line` or `file#row` of its first pair."""


@dataclass(frozen=True, kw_only=True)
class ReadingData:
    """One dataset, in the order of its file."""

    name: str
    """File name, or `microworld`."""
    shape: str
    """squad, hotpot, aqua, own or microworld."""
    examples: tuple[PlacedExample, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Questions and texts that are valid, but of no use, by reason."""
    problems: tuple[Problem, ...] = ()
    """Problems of the rows that were skipped."""

    @property
    def pairs(self) -> int:
        return sum(len(each.example.pairs) for each in self.examples)


def read_training_data(sources: Sequence[str], *, seed: int = 0, skip_bad: bool = False) -> list[ReadingData]:
    """Read every source: a file, a folder, a hub dataset, or a part of the microworld.

    Test and validation files of a folder are not read. The order of sources matters, that of a file is kept.

    Raises UserError that lists every problem of every source; with `skip_bad`, only if a source has nothing to read.
    """
    datasets: list[ReadingData] = []
    for source in sources:
        if is_world(source):
            examples = tuple(
                PlacedExample(example=example, place=f"{source}#{number}")
                for number, example in enumerate(read_world(source, seed), 1)
            )
            datasets.append(ReadingData(name=source.partition(":")[0], shape="microworld", examples=examples))
            continue
        for file in find_files(source):
            if file.part not in (TEST, VALID, UNUSED):
                datasets.append(_read_records(file.name, read_records(file.path, file.name)))
    problems = [problem for dataset in datasets for problem in dataset.problems]
    usable = any(dataset.examples for dataset in datasets)
    if problems and not (skip_bad and usable):
        raise refusal(problems, ", ".join(sources), all_lost=not usable)
    if not usable:
        raise UserError(
            "There is no text with pairs",
            where=", ".join(sources),
            fix="give a dataset of questions about texts, such as SQuAD, or microworld",
        )
    return [dataset for dataset in datasets if dataset.examples or dataset.problems]


@dataclass(kw_only=True)
class _Reading:
    """What one file has given so far."""

    shape: str = ""
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    """By text, so that pairs of one text in several rows come together."""
    rewrites: list[PlacedExample] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    def add(self, text: str, pairs: Sequence[Pair], place: str) -> None:
        known = self.pairs.setdefault(text, [])
        self.places.setdefault(text, place)
        for pair in pairs:
            if all(pair.question.casefold() != other.question.casefold() for other in known):
                known.append(pair)
            else:
                self.skip("question asked before")

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


def _read_records(name: str, records: Iterator[Record | Problem]) -> ReadingData:
    reading = _Reading()
    for record in records:
        if isinstance(record, Problem):
            reading.problems.append(record)
            continue
        shape, read = _shape_of(record.value)
        if read is None:
            keys = ", ".join(record.value) if isinstance(record.value, dict) else "plain text"
            reading.problems.append(Problem(record.place, f"has {keys or 'no keys'}; expected the keys of {SHAPES}"))
            continue
        reading.shape = reading.shape or shape
        faults: Faults = []
        assert isinstance(record.value, dict)
        read(record.value, record.place, reading, faults)
        reading.problems += [Problem(record.place, fault) for fault in faults]
    if not reading.places and not reading.rewrites and not reading.problems:
        reading.problems.append(Problem(name, "the file has no rows"))
    examples = []
    for text, pairs in reading.pairs.items():
        example = Example(text=text, pairs=tuple(pairs))
        if pairs:
            examples.append(PlacedExample(example=example, place=reading.places[text]))
        else:
            reading.skip("text without pairs")
    return ReadingData(
        name=name,
        shape=reading.shape,
        examples=(*examples, *reading.rewrites),
        skipped=dict(reading.skipped),
        problems=tuple(reading.problems),
    )


_Read = Callable[[dict[str, Any], str, _Reading, Faults], None]


def _shape_of(value: dict[str, Any] | str) -> tuple[str, _Read | None]:
    """Name and reader of the shape that a record has."""
    if isinstance(value, str):
        return "", None
    if "paragraphs" in value:
        return "squad", _read_article
    if "rationale" in value and "options" in value:
        return "aqua", _read_aqua
    if {"context", "question", "answers"} <= value.keys():
        return "squad", _read_squad_row
    if {"context", "question", "answer"} <= value.keys() and not isinstance(value["context"], str):
        return "hotpot", _read_hotpot
    if "text" in value:
        return "own", _read_own
    return "", None


def _read_article(value: dict[str, Any], place: str, reading: _Reading, faults: Faults) -> None:
    for number, paragraph in enumerate(_objects(value["paragraphs"], "paragraphs", faults), 1):
        label = f"paragraph {number}"
        text = _untagged(required_text(paragraph.get("context"), f"{label}, context", faults), label, faults)
        pairs = []
        for at, asked in enumerate(_objects(paragraph.get("qas"), f"{label}, qas", faults), 1):
            pair = _squad_pair(asked, f"{label}, question {at}", reading, faults)
            pairs += [] if pair is None else [pair]
        if text:
            reading.add(text, pairs, f"{place}, {label}")


def _read_squad_row(value: dict[str, Any], place: str, reading: _Reading, faults: Faults) -> None:
    text = _untagged(required_text(value["context"], "context", faults), "context", faults)
    pair = _squad_pair(value, "question", reading, faults)
    if text and pair is not None:
        reading.add(text, [pair], place)


def _squad_pair(asked: dict[str, Any], label: str, reading: _Reading, faults: Faults) -> Pair | None:
    """The question with its first answer; None for a question without one (SQuAD 2.0), which is skipped."""
    answers = asked.get("answers")
    if isinstance(answers, dict):  # the hub's form: {"text": […], "answer_start": […]}
        found_texts = answers.get("text")
        answers = [{"text": text} for text in found_texts] if isinstance(found_texts, list) else None
    if answers == [] or asked.get("is_impossible") is True:
        reading.skip("question without an answer")
        return None
    found = _objects(answers, f"{label}, answers", faults)
    return _pair(asked.get("question"), found[0].get("text"), label, faults) if found else None


def _read_hotpot(value: dict[str, Any], place: str, reading: _Reading, faults: Faults) -> None:
    """The paragraphs that support the answer as the text, and the supporting sentences as the reasoning."""
    context = _rows(value["context"], "title", "sentences")
    facts = _rows(value.get("supporting_facts"), "title", "sent_id")
    paragraphs: dict[str, list[str]] = {}
    for number, paragraph in enumerate(context, 1):
        match paragraph:
            case [str(title), [*sentences]] if sentences and all(isinstance(each, str) for each in sentences):
                paragraphs[title] = [each.strip() for each in sentences]
            case _:
                faults.append(f"context, paragraph {number} is not a title and a list of sentences")
    if not paragraphs:
        faults.append(
            f"context is {described(value['context'])}; expected a list of paragraphs, [title, [sentence, …]]"
        )
        return
    supporting: list[tuple[str, int]] = []
    for fact in facts:
        match fact:
            case [str(title), int(at)] if 0 <= at < len(paragraphs.get(title, ())):
                supporting.append((title, at))
    used = {title for title, _ in supporting} or set(paragraphs)
    text = "\n\n".join(f"{title}\n{' '.join(sentences)}" for title, sentences in paragraphs.items() if title in used)
    pair = _pair(value["question"], value["answer"], "question", faults)
    if pair is not None and _untagged(text, "context", faults):
        reasoning = " ".join(paragraphs[title][at] for title, at in dict.fromkeys(supporting))
        reading.add(text, [replace(pair, reasoning=reasoning)], place)


def _read_aqua(value: dict[str, Any], place: str, reading: _Reading, faults: Faults) -> None:
    example = read_aqua(value, faults)
    if example is not None and _untagged(example.text, "question", faults):
        reading.add(example.text, [_checked(pair, "question", faults) for pair in example.pairs], place)


def _read_own(value: dict[str, Any], place: str, reading: _Reading, faults: Faults) -> None:
    text = _untagged(required_text(value["text"], "text", faults), "text", faults)
    if (rewrite := value.get("rewrite")) is not None:
        [found] = _objects([rewrite], "rewrite", faults) or [{}]
        form = required_text(found.get("form"), "rewrite, form", faults)
        other = _untagged(required_text(found.get("text"), "rewrite, text", faults), "rewrite", faults)
        if text and form and other:
            example = Example(text=text, rewrite=Rewrite(form=form, text=other))
            reading.rewrites.append(PlacedExample(example=example, place=place))
        return
    pairs = []
    for number, asked in enumerate(_objects(value.get("pairs"), "pairs", faults), 1):
        label, before = f"pair {number}", len(faults)
        pair = _pair(asked.get("question"), asked.get("answer"), label, faults)
        options = _options(asked.get("options"), f"{label}, options", faults)
        reasoning = optional_text(asked.get("reasoning"), f"{label}, reasoning", faults)
        if pair is not None and len(faults) == before:
            pairs.append(_checked(replace(pair, options=options, reasoning=reasoning), label, faults))
    if text:
        reading.add(text, pairs, place)


def _pair(question: Any, answer: Any, label: str, faults: Faults) -> Pair | None:
    before = len(faults)
    pair = Pair(
        question=required_text(question, f"{label}, question", faults).strip(),
        answer=required_text(answer, f"{label}, answer", faults).strip(),
    )
    return _checked(pair, label, faults) if len(faults) == before else None


def _checked(pair: Pair, label: str, faults: Faults) -> Pair:
    """The pair. What it says must not break the format apart."""
    if contains_tags(f"{pair.question_text} {pair.answer_text}"):
        faults.append(f"{label} contains a tag of the synthesizer's format, such as <ANS>")
    if pair.options and pair.answer not in pair.options:
        faults.append(f"{label}: the answer {pair.answer!r} is not one of the options")
    return pair


def _untagged(text: str, label: str, faults: Faults) -> str:
    """The text without space around it; empty, and a fault, if it contains a tag."""
    if contains_tags(text):
        faults.append(f"{label} contains a tag of the synthesizer's format, such as <CON>")
        return ""
    return text.strip()


def _options(value: Any, label: str, faults: Faults) -> tuple[str, ...]:
    """Options on one line each."""
    if value is None or value == []:
        return ()
    if not isinstance(value, list):
        faults.append(f"{label} is {described(value)}; expected a list of texts")
        return ()
    return tuple(
        " ".join(required_text(option, f"{label}, {number}", faults).split()) for number, option in enumerate(value, 1)
    )


def _rows(value: Any, *columns: str) -> list[Any]:
    """A list of rows; the hub has them as columns."""
    if isinstance(value, dict):
        found = [value.get(column) for column in columns]
        value = list(map(list, zip(*found, strict=False))) if all(isinstance(each, list) for each in found) else []
    return value if isinstance(value, list) else []


def _objects(value: Any, label: str, faults: Faults) -> list[dict[str, Any]]:
    """`value` if it is a list of objects; otherwise a fault and no objects."""
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return value
    what = "a list with other things than objects" if isinstance(value, list) else described(value)
    faults.append(f"{label} is {what}; expected a list of objects")
    return []
