"""The page: complete, offline, deterministic, and safe whatever the rows contain."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.curation.provenance import command_of
from mlx_suite.curation.report import check_place, make_report, write_report
from mlx_suite.curation.report.figures import Source
from mlx_suite.curation.report.report import report_on
from mlx_suite.curation.report.summary import formatted
from mlx_suite.runtime.errors import UserError
from tests.curation.report.rows import Page, rejected, write_run
from tests.magpie.rows import Row, row

WICKED = "<script>alert('x')</script> & \"quoted\" <img src=http://evil.example/x.png onerror=alert(1)>"
WORDS = "river table poem engine garden number letter planet cake market bridge kettle violin cloud".split()


def rows(count: int, **fields: Any) -> list[Row]:
    """Rows with all fields of a run."""
    result = []
    for number in range(count):
        random = np.random.default_rng(number)
        text = " ".join(random.choice(WORDS, 6))
        tags = {"category": ("Math", "Editing")[number % 2], "difficulty": ("easy", "hard")[number % 3 == 0]}
        result.append(
            row(
                f"{text}?",
                f"The {text}.",
                **{
                    "id": f"ab-{number:06}",
                    "instruction_tokens": 7 + number % 5,
                    "answer_tokens": 9,
                    "tags": tags,
                    "confidence": {"category": 0.75},
                    "scores": {"ifd": 0.5},
                    "steer": {"category": "Math"},
                    "sampling": {"temperature": 1.0 + number % 2},
                    "model": "tiny",
                    **fields,
                },
            )
        )
    return result


def run(folder: Path, count: int = 12, seed: int = 0, **fields: Any) -> Path:
    vectors = np.random.default_rng(seed).standard_normal((count, 8))
    lost = [rejected("Again?", "duplicate", "screen", duplicate_of="ab-000000", instruction_tokens=3)]
    manifest = {
        "settings": {"count": count, "model_name": "tiny", "seed": 5},
        "quotas": {"category": {"Math": 4}},
        "seconds": {"ask": 1.5},
    }
    return write_run(folder, rows(count, **fields), lost, manifest, vectors)


def test_a_run_has_every_part(tmp_path: Path) -> None:
    report = make_report(run(tmp_path / "run"))

    page = Page(report.html)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == [
        *("funnel", "lengths", "tags", "scores", "map", "nearest", "diversity"),
        *("samples", "rejected", "provenance"),
    ]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert {f"#{section}" for section in sections} >= set(links)


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    html = make_report(folder, run(tmp_path / "other", seed=1)).html

    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "a" or (attributes["href"] or "").startswith("#")
    assert "url(" not in html and "@import" not in html
    assert not re.search("https?://", html)
    assert "default-src 'none'" in html


def test_texts_of_rows_are_escaped(tmp_path: Path) -> None:
    wicked = rows(3, id=WICKED, tags={WICKED: WICKED, "category": WICKED}, steer={WICKED: WICKED}, model=WICKED)
    wicked.append(row(WICKED, f"```{WICKED}\n{WICKED}\n```", model=WICKED, scores={WICKED: 1.0}))
    lost = [rejected(WICKED, WICKED, "screen", duplicate_of=WICKED)]
    manifest = {"settings": {"model_name": WICKED, "count": 3}, "quotas": {WICKED: {WICKED: 1}}, WICKED: WICKED}
    folder = write_run(tmp_path / "run", wicked, lost, manifest, np.eye(4))

    page = Page(make_report(folder, folder).html)

    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img"}
    assert page.text.count(WICKED) > 20
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "id rejection stage tags confidence scores steer sampling nearest duplicate_of instruction_tokens model".split()
)
PARTS = "settings rows quotas seconds work files versions created".split()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=3),
    st.dictionaries(st.sampled_from(PARTS), JSON),
    st.dictionaries(st.sampled_from(["rejection", "stage", *FIELDS]), JSON),
)
def test_any_folder_has_a_page(fields: list[dict[str, Any]], manifest: dict[str, Any], other: dict[str, Any]) -> None:
    accepted = [row(f"Question {number}?") | each for number, each in enumerate([*fields, {}])]
    source = Source(
        name="odd", rows=accepted, rejected=[rejected("No.", "duplicate", "screen") | other], manifest=manifest
    )

    report = report_on([source, Source(name="plain", rows=[row("Question 0?")])])

    Page(report.html)
    json.dumps(report.as_dict())
    report.html.encode()


def test_characters_forbidden_in_html_are_replaced(tmp_path: Path) -> None:
    file = tmp_path / "odd.jsonl"
    odd = [row("Bell \x07 and \x1b[31m red\r\nnext", "नमस्ते 🎉 مرحبا"), row("你好")]
    file.write_text("".join(json.dumps(each) + "\n" for each in odd))

    html = make_report(file).html

    assert "Bell � and �[31m red\nnext" in html
    assert "नमस्ते 🎉 مرحبا" in html
    html.encode()


def test_the_same_rows_give_the_same_page(tmp_path: Path) -> None:
    first, second = (make_report(run(tmp_path / name / "run"), run(tmp_path / name / "b", seed=1)) for name in "xy")

    assert first.html == second.html
    assert first.as_dict() == second.as_dict()


def test_code_is_preformatted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("Mend:\n```python\nif a < b:\n    pass\n```")])

    assert "<pre><code>if a &lt; b:\n    pass</code></pre>" in make_report(folder).html


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_rows_are_enough_for_a_page(tmp_path: Path, count: int) -> None:
    report = make_report(run(tmp_path / "run", count))

    Page(report.html)
    assert report.figures[0].rows == count


def test_a_run_without_accepted_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="accepted.jsonl"):
        make_report(write_run(tmp_path / "run", []))


def test_alpaca_has_a_page_without_tags_funnel_and_map(tmp_path: Path) -> None:
    file = tmp_path / "alpaca.json"
    file.write_text(json.dumps([{"instruction": f"Count to {n}.", "input": "", "output": "1"} for n in range(9)]))

    report = make_report(file)

    sections = [attributes["id"] for tag, attributes in Page(report.html).tags if tag == "section"]
    assert sections == ["lengths", "nearest", "diversity", "samples", "provenance"]
    assert report.as_dict()["datasets"][0]["funnel"] is None


def test_two_datasets_are_measured_on_samples_of_equal_size(tmp_path: Path) -> None:
    report = make_report(run(tmp_path / "a", 12), run(tmp_path / "b", 30, seed=1))

    assert [each.diversity[0].size for each in report.figures] == [12, 12]
    assert report.overlap is not None and report.overlap.exact == (12, 12)
    lines = {line.title: (line.texts, line.difference) for line in report.summary}
    assert lines["rows"] == (("12", "30"), "+18")
    assert lines["yield"] == (("92.3%", "96.8%"), "+4.5 points")
    assert [attributes["id"] for tag, attributes in Page(report.html).tags if tag == "section"].count("overlap") == 1


def test_zero_has_no_sign() -> None:
    assert [formatted(value, form) for value, form in ((-0.04, "+.1f"), (-3, ","), (0.5, "+.1%"), (0, "+.2f"))] == [
        "0.0",
        "−3",
        "+50.0%",
        "0.00",
    ]
    assert formatted(None, ".1f") == "none"


def test_embeddings_of_two_models_are_not_compared(tmp_path: Path) -> None:
    report = make_report(run(tmp_path / "a"), run(tmp_path / "b", model="another"))

    assert not report.frame.compares_vectors
    assert "The embeddings come from different models" in report.html
    assert report.frame.unit == "words"


def test_a_dataset_compared_with_itself_has_two_names(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")

    assert [each.name for each in make_report(folder, folder).figures] == ["run (1)", "run (2)"]


def test_changed_rows_are_detected(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("A?"), row("B?")])
    checksum = hashlib.sha256((folder / "accepted.jsonl").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"files": {"accepted.jsonl": checksum}}))

    assert "matches the manifest" in make_report(folder).html
    with (folder / "accepted.jsonl").open("a") as file:
        file.write(json.dumps(row("C?")) + "\n")
    assert "differs from the manifest: the rows were changed" in make_report(folder).html


def test_the_command_is_that_of_the_manifest_with_the_output_folder() -> None:
    assert command_of({"command": "mlx-suite magpie run 'my model' --count 9"}, "out") == (
        "mlx-suite magpie run 'my model' --count 9 --out out"
    )
    assert command_of({}, "out") is None


def test_only_a_previous_report_is_replaced(tmp_path: Path) -> None:
    report = make_report(run(tmp_path / "run"))
    path, other = tmp_path / "report.html", tmp_path / "thesis.html"
    other.write_text("<html>My thesis</html>")

    write_report(report, path)
    write_report(report, path)
    assert path.read_text(encoding="utf-8") == report.html
    with pytest.raises(UserError, match="not a report"):
        check_place(other)
    write_report(report, other, force=True)
    with pytest.raises(UserError, match="folder with this name"):
        check_place(tmp_path)
