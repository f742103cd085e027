"""`mlx-suite export gguf`: a model for llama.cpp, Ollama and LM Studio."""

import json
import re
import shlex
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import human_bytes

from .flags import ModelName
from .output import show

if TYPE_CHECKING:
    from mlx_suite.export.gguf import GGUFExport
    from mlx_suite.export.gguf_check import GGUFCheck


class WeightType(StrEnum):
    """The types of `mlx_suite.export.gguf_file` once more, so that `--help` loads no MLX."""

    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"
    Q8_0 = "q8_0"


def export_gguf(
    model: ModelName,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.gguf", help="The file to write.")],
    adapter: Annotated[
        Path | None, typer.Option("--adapter", metavar="DIR", help="An adapter to merge into the weights, or its run.")
    ] = None,
    type: Annotated[
        WeightType,
        typer.Option("--type", help="Of the matrices: f16, bf16 (keeps a bfloat16 checkpoint exactly), f32, or q8_0."),
    ] = WeightType.F16,
    check: Annotated[
        bool, typer.Option("--check", help="Load the file with llama.cpp and compare tokens and logits with the model.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Write a Llama, Mistral or Gemma 2 as one GGUF file, with a Modelfile for Ollama beside it.

    The file holds the weights, the tokenizer and the chat template. The Modelfile holds the chat template once more in
    Ollama's language, derived from the model's own, the stop tokens and the sampling settings.

    Writing takes the memory of the largest matrix, not of the model. `--check` needs llama-cpp-python.

    Example: `mlx-suite export gguf tiny-llama3 --out tiny-llama3.gguf`
    """
    # Imported here: MLX and the hub's client take a second that `--help` should not.
    from mlx_suite.export.gguf import export_gguf as write
    from mlx_suite.export.gguf_check import import_llama_cpp
    from mlx_suite.hub.resolve import resolve

    folder = resolve(model, progress=not quiet)
    if check:
        import_llama_cpp()  # before the work, not after it
    with Console(stderr=True, quiet=quiet).status(f"writing {out.name}"):
        written = write(folder, out, type=type.value, adapter=adapter)
    found = _compare(written, folder, adapter, quiet) if check else None
    if as_json:
        print(json.dumps(_record(written, found), indent=2))
    else:
        _show(written, found)
    if found is not None and not found.passed:
        raise UserError(
            "llama.cpp does not make of the file what the model is",
            where=str(out),
            details=list(_failures(found)),
            fix="do not hand the file on; report this with the model's name",
        )


def _compare(written: "GGUFExport", folder: Path, adapter: Path | None, quiet: bool) -> "GGUFCheck":
    from mlx_suite.export.gguf import find_template
    from mlx_suite.export.gguf_check import check_gguf
    from mlx_suite.loading import load

    with Console(stderr=True, quiet=quiet).status("comparing with llama.cpp"):
        model, tokenizer = load(folder, adapter=adapter)
        return check_gguf(written.path, model, tokenizer, find_template(folder, adapter))


def _record(written: "GGUFExport", found: "GGUFCheck | None") -> dict[str, Any]:
    record = {**asdict(written), "path": str(written.path), "modelfile": str(written.modelfile)}
    return record | ({"check": asdict(found) | {"passed": found.passed}} if found is not None else {})


def _show(written: "GGUFExport", found: "GGUFCheck | None") -> None:
    name = re.sub(r"[^a-z0-9._-]+", "-", written.path.stem.lower())
    lines = [
        ("file", f"{written.path}  {human_bytes(written.num_bytes)}, {written.tensors} tensors, {written.type}"),
        ("Modelfile", str(written.modelfile)),
        *(("note", note) for note in written.notes),
    ]
    if found is not None:
        same = found.texts - len(found.other_tokens)
        lines += [
            (
                "logits",
                f"at most {found.largest_difference:.2g} from llama.cpp's; a typical one is {found.typical_logit:.2g}",
            ),
            ("next token", f"the same at {found.agreement:.1%} of {found.positions} positions"),
            ("tokens", f"the same in {same} of {found.texts} texts"),
        ]
    modelfile = shlex.quote(str(written.modelfile))
    show([*lines, ("run it", f"ollama create {name} -f {modelfile} && ollama run {name}")])


def _failures(found: "GGUFCheck") -> list[str]:
    from mlx_suite.export.gguf_check import LEAST_AGREEMENT

    failures = [f"other tokens for {text!r}" for text in found.other_tokens]
    if found.agreement < LEAST_AGREEMENT:
        failures.append(f"another next token at {1 - found.agreement:.0%} of the positions")
    return failures
