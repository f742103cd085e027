"""Reading a source: parts of a run folder are read, or left out with a note."""

import json
from pathlib import Path

import numpy as np

from mlx_suite.curation.dataset import instruction_of, response_of
from mlx_suite.curation.report.figures import read_source
from tests.curation.report.rows import rejected, write_run
from tests.magpie.rows import row


def test_a_run_has_rows_rejected_rows_a_manifest_and_unit_vectors(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        [row("A?"), row("B?")],
        [rejected("C?", "duplicate", "screen")],
        {"settings": {"count": 2}},
        [[3, 4], [0, 2]],
    )

    source = read_source(folder)

    assert source.name == "run"
    assert [instruction_of(each) for each in source.rows] == ["A?", "B?"]
    assert source.rejected is not None and len(source.rejected) == 1
    assert source.manifest == {"settings": {"count": 2}}
    assert source.vectors is not None
    np.testing.assert_allclose(source.vectors, [[0.6, 0.8], [0, 1]], atol=1e-3)
    assert source.notes == ()


def test_an_alpaca_file_has_only_rows(tmp_path: Path) -> None:
    file = tmp_path / "alpaca.json"
    file.write_text(json.dumps([{"instruction": "Add.", "input": "2 and 3", "output": "5"}]))

    source = read_source(file)

    assert instruction_of(source.rows[0]) == "Add.\n\n2 and 3"
    assert response_of(source.rows[0]) == "5"
    assert (source.rejected, source.manifest, source.vectors, source.notes) == (None, {}, None, ())


def test_a_torn_last_line_is_ignored_and_a_broken_line_is_noted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("A?")], [rejected("B?", "duplicate", "screen")])
    with (folder / "rejected.jsonl").open("a") as file:
        file.write('{"no": "messages"}\n{"messages": [{"role": "us')

    source = read_source(folder)

    assert source.rejected is not None and len(source.rejected) == 1
    assert source.notes == ("rejected.jsonl: 1 line is not a row and is not counted (line 2).",)


def test_embeddings_of_other_rows_are_ignored(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("A?")], vectors=[[1, 0], [0, 1]])

    source = read_source(folder)

    assert source.vectors is None
    assert source.notes == (
        "embeddings.npy is ignored. The embeddings are 2 x 2 values and do not belong to these 1 rows.",
    )


def test_missing_files_are_noted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("A?")])
    (folder / "rejected.jsonl").unlink()
    (folder / "manifest.json").write_text("{")

    source = read_source(folder)

    assert source.rejected is None and source.manifest == {}
    assert [note.split(":")[0] for note in source.notes] == [
        "There is no rejected.jsonl",
        "manifest.json cannot be read",
    ]


def test_settings_json_is_the_manifest_of_an_old_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("A?")])
    (folder / "manifest.json").rename(folder / "settings.json")

    assert read_source(folder).manifest == {"kind": "mlx-suite magpie"}
