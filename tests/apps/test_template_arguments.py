"""Variables of the chat template are saved with what was trained with them, and used again when it is loaded."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlx_suite.text import Message, derive_pre_query
from mlx_suite_apps.cli.checkpoint import open_checkpoint
from mlx_suite_apps.cli.generate import _chat_turn
from mlx_suite_apps.cli.main import app

pytestmark = pytest.mark.usefixtures("uncompiled")
MARK = (
    "{%- if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    "{{- '<no thought>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def thinker(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template writes a mark if reasoning is turned off, as Qwen 3's does."""
    folder = tmp_path_factory.mktemp("thinker") / "model"
    shutil.copytree(random_model, folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + MARK)
    return folder


def trained(model: Path, folder: Path, *more: str) -> Path:
    """The folder of a run of one step with the variable set."""
    data = folder / "rows.jsonl"
    data.write_text('{"instruction": "say a", "output": "ab"}\n')
    small = ["--steps", "1", "--rank", "2", "--valid-share", "0", "--template-arg", "enable_thinking=false", *more]
    command = ["finetune", str(model), str(data), "--out", str(folder / "run"), *small]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    return folder / "run"


def test_an_adapter_is_prompted_as_it_was_trained(thinker: Path, tmp_path: Path) -> None:
    run = trained(thinker, tmp_path)
    asked = [Message("user", "say a")]
    with_adapter, alone = open_checkpoint(str(thinker), adapter=run), open_checkpoint(str(thinker))
    for checkpoint, ends in ((with_adapter, "<no thought>"), (alone, "<|end_header_id|>\n\n")):
        chat = checkpoint.chat_model()
        prompts = {
            "generate": _chat_turn(checkpoint, "say a", None).ids,
            "chat": chat.prompt_ids(asked),
            "judge answer": chat.styled_prompt(asked),
            "magpie": derive_pre_query(checkpoint.tokenizer, checkpoint.template).to_assistant_ids,
        }
        for name, ids in prompts.items():
            assert checkpoint.tokenizer.decode(ids, skip_special=False).endswith(ends), name
    other = open_checkpoint(str(thinker), adapter=run, variables=["enable_thinking=true"])
    assert "<no thought>" not in other.tokenizer.decode(_chat_turn(other, "say a", None).ids, skip_special=False)


def test_a_full_model_is_prompted_as_it_was_trained(thinker: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(trained(thinker, tmp_path, "--method", "full") / "last"))
    ids = derive_pre_query(checkpoint.tokenizer, checkpoint.template).to_assistant_ids
    assert checkpoint.tokenizer.decode(ids, skip_special=False).endswith("<no thought>")
