"""A distillation is a finetuning run: it lowers the distance from the teacher, and resumes bit-exactly after a kill."""

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_suite.export.gguf import export_gguf
from mlx_suite.export.quantize import quantize_checkpoint
from mlx_suite.finetune.run import RunCallbacks
from mlx_suite.runtime.errors import UserError
from mlx_suite.transfer.distill.settings import DistillSettings, check_distill_settings
from tests.export.checkpoints import random_checkpoint, without_template
from tests.finetune.story import bits, log, run_sums
from tests.magpie.random_checkpoint import write_checkpoint
from tests.transfer.distill.story import distill_settings, run_distill

REPOSITORY = Path(__file__).parents[3]

CHILD = """
import sys
from pathlib import Path
import mlx_suite
import mlx.core as mx
mx.set_default_device(mx.cpu)
mx.disable_compile()
from mlx_suite.finetune.run import RunCallbacks
from tests.transfer.distill.story import run_distill

def step(number, loss, trained):
    print(number, flush=True)

run_distill(*map(Path, sys.argv[1:4]), RunCallbacks(step=step), on_policy=0.5)
"""


pytestmark = pytest.mark.usefixtures("uncompiled")


def story(run: Path) -> tuple[object, ...]:
    """Adapters, losses and responses of a run."""
    losses = [(line["kind"], line["step"], line["loss"]) for kind in ("train", "valid") for line in log(run, kind)]
    return bits(run / "last"), bits(run / "best"), losses, (run / "samples.jsonl").read_text()


def test_a_distillation_lowers_the_distance_from_the_teacher(student: Path, teacher: Path, tmp_path: Path) -> None:
    finished = run_distill(student, teacher, tmp_path)
    assert finished.valid_before is not None and finished.state.best_loss is not None
    assert finished.state.best_loss < 0.8 * finished.valid_before
    assert "teacher: " in (tmp_path / "run" / "config.yaml").read_text()
    assert "distill --config" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_student_that_is_its_own_teacher_has_nothing_to_learn(student: Path, tmp_path: Path) -> None:
    finished = run_distill(student, student, tmp_path, steps=1)
    assert finished.valid_before == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("changes", [{}, {"on_policy": 0.5}], ids=["off-policy", "on-policy"])
def test_an_interrupted_run_resumes_with_the_same_bits(
    changes: dict[str, float], student: Path, teacher: Path, tmp_path: Path
) -> None:
    run_distill(student, teacher, tmp_path, out=str(tmp_path / "whole"), **changes)
    pressed = RunCallbacks(step=lambda step, loss, trained: step == 3 and signal.raise_signal(signal.SIGINT))
    assert run_distill(student, teacher, tmp_path, pressed, **changes).result.stopped
    run_distill(student, teacher, tmp_path, **changes)
    assert story(tmp_path / "run") == story(tmp_path / "whole")


@pytest.mark.slow
def test_an_on_policy_run_killed_repeatedly_ends_with_the_same_bits(
    student: Path, teacher: Path, tmp_path: Path
) -> None:
    run_distill(student, teacher, tmp_path, out=str(tmp_path / "whole"), on_policy=0.5)
    chance = random.Random(3)
    for _ in range(3):
        arguments = [sys.executable, "-c", CHILD, str(student), str(teacher), str(tmp_path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as child:
            assert child.stdout is not None
            for _ in range(chance.randint(1, 5)):
                child.stdout.readline()
            child.kill()
            child.wait()
    run_distill(student, teacher, tmp_path, on_policy=0.5)
    assert story(tmp_path / "run") == story(tmp_path / "whole")


def test_a_run_resumes_only_with_the_teacher_it_was_started_with(student: Path, teacher: Path, tmp_path: Path) -> None:
    run_distill(student, teacher, tmp_path, steps=1)
    with pytest.raises(UserError) as caught:
        run_distill(student, student, tmp_path, steps=1, objective="reverse")
    [objective, other] = caught.value.details
    assert objective == 'objective: was "forward", now "reverse"'
    assert other.startswith('teacher: was "')


def test_the_teacher_may_be_moved(student: Path, teacher: Path, tmp_path: Path) -> None:
    run_distill(student, teacher, tmp_path, steps=1)
    (tmp_path / "elsewhere").symlink_to(teacher)
    assert run_distill(student, tmp_path / "elsewhere", tmp_path, steps=1).state.step == 1


def test_a_teacher_may_be_an_adapter(student: Path, tmp_path: Path) -> None:
    run_sums(student, tmp_path, out=str(tmp_path / "tuned"), dropout=0.0)
    finished = run_distill(student, student, tmp_path, teacher_adapter=str(tmp_path / "tuned"))
    assert finished.valid_before is not None and finished.state.best_loss is not None
    assert finished.valid_before > 1e-3
    assert finished.state.best_loss < finished.valid_before


def test_a_teacher_may_be_quantized(student: Path, teacher: Path, tmp_path: Path) -> None:
    quantize_checkpoint(teacher, tmp_path / "small", bits=8, group_size=32)
    finished = run_distill(student, tmp_path / "small", tmp_path, steps=2)
    whole = run_distill(student, teacher, tmp_path, steps=2, out=str(tmp_path / "other"))
    assert finished.valid_before == pytest.approx(whole.valid_before, rel=0.05)
    assert finished.state.identity["teacher"] != whole.state.identity["teacher"]


def test_a_teacher_may_be_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    student, teacher, file = tmp_path / "student", tmp_path / "teacher", tmp_path / "teacher.gguf"
    random_checkpoint(student, "llama")
    random_checkpoint(teacher, "llama", num_hidden_layers=2)
    export_gguf(teacher, file, type="f32")
    runs = [
        run_distill(student, each, tmp_path, steps=1, out=str(tmp_path / f"run-{number}"))
        for number, each in enumerate((teacher, file))
    ]
    assert runs[0].valid_before is not None and runs[0].valid_before > 1e-3
    assert runs[1].valid_before == pytest.approx(runs[0].valid_before, rel=1e-4)
    assert runs[1].notes == ()


@pytest.mark.parametrize("changes", [{"method": "full"}, {"batching": "bucket", "row_length": None}])
def test_methods_and_batches_of_finetuning_apply(
    changes: dict[str, object], student: Path, teacher: Path, tmp_path: Path
) -> None:
    finished = run_distill(student, teacher, tmp_path, objective="jsd", temperature=2.0, data_share=0.2, **changes)
    assert finished.valid_before is not None and finished.state.best_loss is not None
    assert finished.state.best_loss < finished.valid_before


def test_one_note_says_that_the_teachers_own_template_would_write_the_rows_otherwise(
    student: Path, teacher: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(teacher, tmp_path / "other")
    template = (other / "chat_template.jinja").read_text()
    assert template.count("<|start_header_id|>") > 0
    how = {"steps": 1, "out": str(tmp_path / "run")}
    # Another text of the same template writes the same tokens.
    (other / "chat_template.jinja").write_text("{#- the same -#}" + template)
    same = run_distill(student, other, tmp_path, **how)
    (other / "chat_template.jinja").write_text(template.replace("<|start_header_id|>", "<|start_header_id|>the "))
    differs = run_distill(student, other, tmp_path, **how)
    seen = "the teacher reads the rows as the student's chat template writes them"
    assert same.notes == ()
    assert differs.notes == (f"{seen}: its own writes 24 of the first 24 with other tokens",)
    # What the teacher reads has not changed: the run resumes as the same one.
    assert differs.state.step == 1 and differs.valid_before == same.valid_before
    without_template(other)
    assert run_distill(student, other, tmp_path, **how).notes == (f"{seen}: it has none of its own",)


# ---- user errors


def test_another_vocabulary_is_refused_with_the_number_of_shared_tokens(student: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", letters="01")
    text = (other / "tokenizer.json").read_text()
    # Two letters exchange their ids.
    one, two = '"1": 16', '"2": 17'
    assert one in text and two in text
    (other / "tokenizer.json").write_text(text.replace(one, '"1": 17').replace(two, '"2": 16'))
    with pytest.raises(UserError) as caught:
        run_distill(student, other, tmp_path)
    assert caught.value.what == "Student and teacher have different vocabularies"
    assert caught.value.details == (
        "272 tokens are in both, 270 of them with the same id",
        "student 272 tokens, teacher 272",
    )
    assert "--align" in caught.value.fix


def test_rows_longer_than_the_context_of_the_teacher_are_refused(student: Path, tmp_path: Path) -> None:
    short = write_checkpoint(tmp_path / "short")
    config = (short / "config.json").read_text()
    (short / "config.json").write_text(
        config.replace('"max_position_embeddings": 256', '"max_position_embeddings": 16')
    )
    with pytest.raises(UserError, match="the teacher's context is 16") as caught:
        run_distill(student, short, tmp_path)
    assert caught.value.fix == "--max-length 16 --too-long drop"


def test_every_invalid_setting_is_listed(student: Path, teacher: Path, tmp_path: Path) -> None:
    changes = {"objective": "forwards", "beta": 2.0, "temperature": 0.0, "max_new_tokens": 0, "rank": 0}
    changes |= {"ema": 0.1, "anchor": 0.1}
    with pytest.raises(UserError) as caught:
        check_distill_settings(distill_settings(student, teacher, tmp_path, **changes))
    assert caught.value.details == (
        "rank is 0: expected a whole number of at least 1",
        "objective is 'forwards': did you mean forward?",
        "beta is 2.0: expected 0 to 1",
        "temperature is 0.0: expected a number above 0",
        "max_new_tokens is 0: expected a whole number of at least 1",
        "anchor applies to finetune and warp: a distillation has a teacher already",
    )


def test_what_a_cache_cannot_give_is_refused() -> None:
    settings = DistillSettings(
        model="a", teacher="b", data="c", cache="d", objective="reverse", on_policy=0.5, temperature=2.0
    )
    with pytest.raises(UserError) as caught:
        check_distill_settings(settings)
    assert [detail.split(":")[0] for detail in caught.value.details] == [
        "cache gives the forward KL only, not reverse",
        "cache holds distributions at temperature 1",
        "cache cannot be combined with on_policy",
    ]
