"""`mlx-suite models import`: a GGUF file, of llama.cpp, Ollama or LM Studio, as a checkpoint folder."""

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import human_bytes

from .flags import AsJson, Quiet
from .fuse import ModelFolder
from .output import show

if TYPE_CHECKING:
    from mlx_suite.gguf.importing import Imported


def import_model(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A .gguf file, ollama:NAME[:TAG], or lmstudio:PUBLISHER/REPO[/FILE]."),
    ],
    out: ModelFolder,
    packed: Annotated[
        bool | None,
        typer.Option(
            "--packed/--dense",
            help="Keep matrices of 4, 5 and 8 bits as MLX's quantized layers, or write all weights dense. "
            "Default: packed on a GPU, dense on a CPU, where dense products are faster.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Dtype of dense weights and scales: float32, bfloat16 or float16. Default: the file's, or bfloat16 "
            "for a quantized file (float16 with --packed, except for Gemma).",
        ),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|MODEL",
            help="Chat template instead of the file's: a Jinja file, or a model whose template is taken, such as "
            "tiny-gemma2 for a base model of Gemma.",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn a GGUF file into a checkpoint folder in Hugging Face's layout.

    Llama, Mistral, Gemma 2, Gemma 3, Qwen 2 and Qwen 3 in any type that the gguf package reads. Config, tokenizer and
    chat template are rebuilt from the file; what it lacks is printed. Memory stays below 300 MB whatever the size of
    the model.

    Other commands take a GGUF file as MODEL too: it is imported once, into a cache.

    Example: `mlx-suite models import gemma-3-270m-q4_k_m.gguf --out gemma-3-270m/`
    """
    from mlx_suite.gguf.importing import import_gguf
    from mlx_suite.hub.imported_models import import_progress
    from mlx_suite.hub.stores import find_in_store, verify_blob

    stored = find_in_store(file)
    path = stored.file if stored else Path(file).expanduser()
    if not path.is_file():
        folder = path.exists()
        raise UserError(
            "this is a folder, not a GGUF file" if folder else "there is no such file",
            where=str(path),
            fix="give a .gguf file; a model's folder needs no import" if folder else "check the path",
        )
    verify_blob(path)
    template = None if chat_template is None else _template(chat_template)
    with nullcontext() if quiet or as_json else import_progress() as on_bytes:
        imported = import_gguf(path, out, packed=packed, dtype=dtype, chat_template=template, on_bytes=on_bytes)
    if as_json:
        print(json.dumps(asdict(imported) | {"folder": str(out), "source": str(path)}, indent=2))
    else:
        show(_lines(imported))


def _template(given: str) -> str:
    """The text of a Jinja file, or of a model's chat template."""
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.text import load_chat_template

    path = Path(given).expanduser()
    if not path.is_file():
        return load_chat_template(resolve(given)).source
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "the chat template cannot be read", where=str(path), fix="give a Jinja file in UTF-8"
        ) from error


def _lines(imported: "Imported") -> list[tuple[str, str]]:
    named = f"{imported.name}, " if imported.name else ""
    weights = sum(imported.types.values())
    types = ", ".join(f"{name} {count / weights:.0%}" for name, count in imported.types.items())
    form = f"{imported.dtype}, {imported.packed} matrices packed" if imported.packed else f"{imported.dtype}, dense"
    sizes = f"{human_bytes(imported.bytes_read)} read, {human_bytes(imported.bytes_written)} written"
    return [
        ("model", f"{named}{imported.model_type}, {imported.parameters:,} parameters"),
        ("types", types),
        ("weights", f"{form}: {sizes}"),
        *([("licence", imported.licence)] if imported.licence else []),
        *(("note", sentence) for sentence in imported.missing),
        ("folder", str(imported.folder)),
    ]
