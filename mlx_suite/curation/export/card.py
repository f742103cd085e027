"""The card of a dataset: `README.md` as the hub shows it, with how its rows came about and what they are not.

The front matter follows the hub's dataset cards: licence, languages, size, tags, and a configuration that names the
file of each split.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import yaml

from mlx_suite.curation.filter.fields import text_of
from mlx_suite.curation.provenance import RunFacts
from mlx_suite.curation.rows import LANGUAGES, Record
from mlx_suite.data.read.sources import VALID
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

MARK = "Written by `mlx-suite magpie export`."
"""Stands in every card, so that a folder is known again."""
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
MOST_LABELS = 15
_LEFT_OUT = ("count", "batch", "patience", "most_asked", "questions", "model_name")
"""Settings of a run that say nothing about its rows."""
_LOADING: Mapping[str, str] = {
    "mlx-lm": "mlx_lm.lora --model MODEL --train --data {folder}",
    "messages": "mlx-suite finetune MODEL {folder}",
    "sharegpt": "mlx-suite finetune MODEL {folder}",
    "alpaca": "mlx-suite finetune MODEL {folder}",
    "parquet": "mlx-suite finetune MODEL {folder}",
    "pairs": "trl dpo --model_name_or_path MODEL --dataset_name {folder}",
    "pairs-text": "mlx_lm_lora.train --model MODEL --train --train-mode dpo --data {folder}",
}


def dataset_card(
    *,
    title: str,
    license: str,
    form: str,
    files: Mapping[str, Sequence[Record]],
    facts: RunFacts,
    keeps_steering: bool = False,
) -> str:
    """The whole text. `files` are the rows by the name of their file, which begins with that of their part."""
    rows = [row for found in files.values() for row in found]
    sections = [
        _front_matter(title, license, form, files, rows),
        f"# {title}",
        _opening(rows, facts),
        _files(form, files),
        _making(facts),
        _steering(rows, keeps_steering),
        _funnel(facts),
        _lengths(rows),
        _tags(rows),
        _limits(license, facts),
        MARK,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def size_category(rows: int) -> str:
    """How the hub calls this many rows."""
    return next((name for limit, name in SIZES if rows < limit), "n>10M")


def _front_matter(
    title: str, license: str, form: str, files: Mapping[str, Sequence[Record]], rows: Sequence[Record]
) -> str:
    splits = [{"split": _split(name, form), "path": name} for name in files]
    languages = _languages(rows)
    head: dict[str, Any] = {
        "pretty_name": title,
        "license": license or "unknown",
        **({"language": languages} if languages else {}),
        "size_categories": [size_category(len(rows))],
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "magpie", *(["preference"] if form.startswith("pairs") else [])],
        "configs": [{"config_name": "default", "data_files": splits}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"


def _split(name: str, form: str) -> str:
    """The hub says validation; mlx-lm asks the hub for valid."""
    part = name.partition(".")[0]
    return "validation" if part == VALID and form != "mlx-lm" else part


def _languages(rows: Sequence[Record]) -> list[str]:
    """ISO 639-1 codes, the most frequent first."""
    codes = {name: code for code, name in LANGUAGES.items()}
    found = Counter(row.get("tags", {}).get("language") for row in rows)
    return [codes[name] for name, _ in found.most_common() if name in codes]


def _opening(rows: Sequence[Record], facts: RunFacts) -> str:
    count = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
    text = count + (f", written by {_listed(facts.models)}." if facts.models else ".")
    if facts.settings or facts.asked:
        text += (
            " The model was given its own chat template up to the place where a user would begin to type, wrote what "
            "a user would ask, and answered it (Magpie, [arXiv 2406.08464](https://arxiv.org/abs/2406.08464))."
        )
    return text


def _files(form: str, files: Mapping[str, Sequence[Record]]) -> str:
    lines = ["## Files", "", _table(("file", "rows"), [(name, f"{len(found):,}") for name, found in files.items()])]
    if len(files) > 1:
        lines += ["", "Near-duplicates are all in the same file, so nothing that is trained on is tested with."]
    lines += ["", f"Format `{form}`. To train on them:", "", "```", _LOADING[form].format(folder="FOLDER"), "```"]
    return "\n".join([*lines, "", "`sha256sum -c SHA256SUMS` checks whether the files are whole."])


def _making(facts: RunFacts) -> str:
    named = {name: value for name, value in facts.settings.items() if name not in _LEFT_OUT}
    settings = [(name, _shown(value)) for name, value in named.items() if value not in (None, "", [], {}, ())]
    versions = [(name, value) for name, value in facts.versions.items()]
    begun = [("begun", facts.created)] if facts.created else []
    lines = [*begun, *settings, *versions]
    return "## How it was made\n\n" + _table(("setting", "value"), lines) if lines else ""


def _steering(rows: Sequence[Record], kept: bool) -> str:
    """What rows were steered by, and whether it shows."""
    steered = [row["steer"] for row in rows if row.get("steer")]
    if not steered:
        return ""
    names = ", ".join(dict.fromkeys(name for each in steered for name in each))
    shown = "stands in them as a system text" if kept else "does not stand in them"
    return f"{len(steered):,} of the rows were asked for by {names}; what the model was told to that end {shown}."


def _funnel(facts: RunFacts) -> str:
    lines: list[tuple[str, str]] = []
    if facts.asked:
        lines.append(("asked", f"{facts.asked:,}"))
        lines += [(f"rejected: {reason}", f"-{count:,}") for reason, count in facts.rejections.items()]
        lines.append(("accepted", f"{facts.asked - sum(facts.rejections.values()):,}"))
    for each in facts.filters:
        steps = each.get("steps")
        lines += [(f"filter: {step['step']}", f"{step['left']:,} left") for step in steps or () if "left" in step]
    return "## What was left out\n\n" + _table(("step", "rows"), lines) if lines else ""


def _lengths(rows: Sequence[Record]) -> str:
    asked, answered = ([len(text_of(row, role).split()) for row in rows] for role in (USER, ASSISTANT))
    turns = Counter(sum(message["role"] == USER for message in row["messages"]) for row in rows)
    lines = [
        ("words of the questions, median", f"{median(asked):,.0f}"),
        ("words of the answers, median", f"{median(answered):,.0f}"),
        ("words of the longest answer", f"{max(answered):,}"),
        *(
            (f"rows of {count} turns" if count > 1 else "rows of 1 turn", f"{n:,}")
            for count, n in sorted(turns.items())
        ),
    ]
    systems = sum(row["messages"][0]["role"] == SYSTEM for row in rows)
    lines += [("rows with a system text", f"{systems:,}")] if systems else []
    return "## Lengths\n\n" + _table(("", ""), lines)


def _tags(rows: Sequence[Record]) -> str:
    names = dict.fromkeys(name for row in rows for name in row.get("tags", {}))
    if not names:
        return ""
    tables = [f"### {name}\n\n" + _distribution(row.get("tags", {}).get(name) for row in rows) for name in names]
    note = "Given by a model, not by people."
    return "\n\n".join(["## Tags", note, *tables])


def _distribution(labels: Iterable[str | None]) -> str:
    counts = Counter(label or "(none)" for label in labels)
    total = sum(counts.values())
    shown = [(label, f"{n:,}", f"{n / total:.1%}") for label, n in counts.most_common(MOST_LABELS)]
    rest = total - sum(n for _, n in counts.most_common(MOST_LABELS))
    return _table(
        ("label", "rows", "share"), [*shown, *([("others", f"{rest:,}", f"{rest / total:.1%}")] if rest else [])]
    )


def _limits(license: str, facts: RunFacts) -> str:
    models = _listed(facts.models) or "the model"
    lines = [
        f"Nobody has read all of these rows. Their answers are what {models} says, right or wrong, with its habits and "
        "its gaps; a model that is trained on them learns those too.",
        "Tags and scores come from models as well and are to be taken as such.",
    ]
    if not license:
        lines.append(f"The licence is unknown: see the licence of {models} for what may be done with its output.")
    return "## Limits\n\n" + "\n".join(f"* {line}" for line in lines)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns of numbers stand to the right."""
    columns = list(zip(*lines, strict=True))
    rule = ["---:" if all(cell[:1] in set("-0123456789") for cell in column) else "---" for column in columns]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in (header, rule, *lines))


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} …"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
