"""`mlx-suite judge`: responses of a model, graded by a judge model or checked against known answers."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress

from .checkpoint import open_checkpoint
from .flags import AdapterFolder, AsJson, Batch, Limit, ModelName, Quiet, Split, Strict, check_choice, resumable
from .help import HelpCommand, new_app
from .judge_report import (
    exact_facts,
    exact_lines,
    pair_agreement_facts,
    pair_agreement_lines,
    pair_facts,
    pair_lines,
    score_agreement_facts,
    score_agreement_lines,
    score_facts,
    show_scores,
)
from .output import progress_lines, show, show_set_aside

if TYPE_CHECKING:
    from mlx_suite.evaluate.prompts import JudgePrompt

Responses = Annotated[
    Path,
    typer.Argument(
        metavar="RESPONSES", help="Output of `judge answer`, or any file or folder of instructions and responses."
    ),
]
By = Annotated[str, typer.Option("--by", metavar="MODEL", help="The judge: any model.")]
PromptFile = Annotated[
    Path | None, typer.Option("--prompt", metavar="FILE", help="Your own prompt, with the same fields in braces.")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, metavar="N", help="Longest reply, in tokens.")]
Seed = Annotated[int, typer.Option("--seed", help="Random seed of the bootstrap intervals.")]
RowsFile = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="JSONL file with one line per row.")]

judge_app = new_app("judge", "Grade a model's responses with a judge, or check them against known answers.")


@judge_app.command("answer", cls=HelpCommand)
def answer(
    model: ModelName,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A dataset in any format that `finetune` reads.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Output file, such as answers.jsonl.")],
    adapter: AdapterFolder = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="test, valid or train. Default: the first of these that the data has."),
    ] = None,
    style: Annotated[
        str, typer.Option(help="Prompt style the model was trained in: chat, alpaca, phi3 or plain.")
    ] = "chat",
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt for rows without one.")] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, metavar="N", help="Longest response, in tokens.")
    ] = 512,
    limit: Limit = None,
    batch: Batch = 16,
    format: Annotated[str | None, typer.Option(help="Format of the data, if it is not detected.")] = None,
    split: Split = "",
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Generate greedy responses to the instructions of a dataset.

    Each row holds the instruction, the dataset's own response as the reference, and the model's response. A stopped
    command resumes when it is run again, and ends with the same file. `.settings.json` next to it records how it was
    made.

    Example: `mlx-suite judge answer tiny-llama3 demo/ --out answers.jsonl`
    """
    from mlx_suite.curation.set_aside import set_aside_facts, set_aside_of
    from mlx_suite.data.dataset import PARTS
    from mlx_suite.data.encode.styles import STYLES
    from mlx_suite.evaluate.answering import AnswerSettings, read_questions, write_answers

    check_choice("--part", part, (None, *PARTS))
    check_choice("--style", style, STYLES)
    questions = read_questions(data, part, format, strict=strict, split=split)
    left_out = set_aside_of(questions.problems)
    show_set_aside(left_out, questions.total)
    checkpoint = open_checkpoint(model, quiet, adapter)
    chat = checkpoint.chat_model(batch, style)
    settings = AnswerSettings(max_tokens=max_tokens, system=system, model=checkpoint.name, adapter=checkpoint.adapter)
    with resumable(f"The responses so far are in {out}"), progress_lines("responses", quiet) as update:
        count = write_answers(chat, questions, settings, out, limit, lambda done, total: update("answer", done, total))
    if as_json:
        facts = {"answers": count, "part": questions.part, "file": str(out)}
        print(json.dumps({**facts, "set_aside": set_aside_facts(left_out)}, ensure_ascii=False))
        return
    show(
        [
            ("responses", f"{count:,} to the {questions.part} part, in {out}"),
            ("next", f"mlx-suite judge exact {out}"),
        ]
    )


@judge_app.command("score", cls=HelpCommand)
def score(
    answers: Responses,
    by: By,
    labels: Annotated[
        bool,
        typer.Option("--labels", help="Score by the probabilities of 0, 10, … 100; nothing is parsed."),
    ] = False,
    prompt: PromptFile = None,
    limit: Limit = None,
    batch: Batch = 16,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    out: RowsFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a judge score each response from 0 to 100.

    The judge reads the instruction, the reference if there is one, and the response. Replies without a score are
    counted and listed. On tasks of the microworld, scores are also compared with the known right answers.

    Example: `mlx-suite judge score answers.jsonl --by OWNER/REPO`
    """
    from mlx_suite.evaluate.agreement import score_agreement
    from mlx_suite.evaluate.answered import read_answers
    from mlx_suite.evaluate.prompts import SCORE_PROMPT
    from mlx_suite.evaluate.scoring import score_answers

    rows = read_answers(answers, limit)
    judge_prompt = _prompt(prompt, SCORE_PROMPT, ("instruction", "answer"))
    judge = open_checkpoint(by, quiet)
    with _count_replies("score", len(rows), quiet) as tell:
        report = score_answers(
            judge.chat_model(batch),
            rows,
            mode="label" if labels else "text",
            prompt=judge_prompt,
            max_tokens=max_tokens,
            tell=tell,
        )
    agreement = score_agreement(report.rows, seed)
    _write_rows(out, [row.as_dict() for row in report.rows])
    if as_json:
        print(json.dumps({"judge": judge.name, **score_facts(report, agreement)}, ensure_ascii=False))
        return
    show_scores(report, judge.name)
    show(score_agreement_lines(agreement))


@judge_app.command("pair", cls=HelpCommand)
def pair(
    a: Annotated[Path, typer.Argument(metavar="A", help="Responses of one model.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Responses of another model to the same instructions.")],
    by: By,
    text: Annotated[
        bool, typer.Option("--text", help="Generate and parse verdicts, instead of comparing the labels A and B.")
    ] = False,
    prompt: PromptFile = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N pairs.")] = None,
    batch: Batch = 16,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    out: RowsFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a judge compare two models' responses, each pair in both orders.

    A response wins only if it wins in both orders; otherwise the pair is a tie. The win rate is reported as measured,
    and controlled for length (as AlpacaEval does, arXiv 2404.04475).

    Example: `mlx-suite judge pair mine.jsonl base.jsonl --by OWNER/REPO`
    """
    from mlx_suite.evaluate.agreement import pair_agreement
    from mlx_suite.evaluate.answered import read_answers
    from mlx_suite.evaluate.pairwise import judge_pairs, match_answers
    from mlx_suite.evaluate.prompts import PAIR_PROMPT

    matched = match_answers(read_answers(a), read_answers(b))
    if not matched.pairs:
        raise UserError(
            "The two files have no instruction in common",
            where=f"{a} and {b}",
            fix="generate both from the same data: mlx-suite judge answer MODEL DATA",
        )
    pairs = matched.pairs[:limit]
    judge_prompt = _prompt(prompt, PAIR_PROMPT, ("instruction", "first", "second"))
    judge = open_checkpoint(by, quiet)
    with _count_replies("pair", 2 * len(pairs), quiet) as tell:
        report = judge_pairs(
            judge.chat_model(batch),
            pairs,
            mode="text" if text else "label",
            prompt=judge_prompt,
            max_tokens=max_tokens,
            seed=seed,
            tell=tell,
        )
    agreement = pair_agreement(report.rows)
    _write_rows(out, [row.as_dict() for row in report.rows])
    if as_json:
        print(json.dumps({"judge": judge.name, **pair_facts(report, matched, agreement)}, ensure_ascii=False))
        return
    show([*pair_lines(report, matched, judge.name), *pair_agreement_lines(agreement)])


@judge_app.command("exact", cls=HelpCommand)
def exact(
    answers: Responses,
    against: Annotated[
        str,
        typer.Option(help="world: the microworld's checker. reference: equality with the reference."),
    ] = "world",
    limit: Limit = None,
    out: RowsFile = None,
    as_json: AsJson = False,
) -> None:
    """Check responses whose right answer is known, without a judge.

    Rows whose right answer is unknown are counted separately. Comparison with a reference ignores case, spacing,
    surrounding quotes and a final full stop.

    Example: `mlx-suite judge exact answers.jsonl`
    """
    from mlx_suite.evaluate.answered import read_answers
    from mlx_suite.evaluate.exact import TRUTHS, check_answers

    check_choice("--against", against, TRUTHS)
    report = check_answers(read_answers(answers, limit), against)
    _write_rows(out, [row.as_dict() for row in report.rows])
    if as_json:
        print(json.dumps(exact_facts(report), ensure_ascii=False))
        return
    show(exact_lines(report, against))


@judge_app.command("validate", cls=HelpCommand)
def validate(
    by: By,
    count: Annotated[
        int, typer.Option("--count", "-n", min=2, metavar="N", help="Number of instructions with known answers.")
    ] = 200,
    text: Annotated[
        bool, typer.Option("--text", help="Generate and parse replies, instead of comparing labels.")
    ] = False,
    batch: Batch = 16,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure whether a model can judge, before you trust its scores.

    The model judges right and wrong responses to instructions of the microworld, given a right reference: one by one
    as scores, and in pairs in both orders. The wrong responses look like the right ones.

    Example: `mlx-suite judge validate --by OWNER/REPO`
    """
    from mlx_suite.evaluate.agreement import known_pairs, pair_agreement, score_agreement
    from mlx_suite.evaluate.pairwise import judge_pairs
    from mlx_suite.evaluate.scoring import score_answers

    mode = "text" if text else "label"
    pairs = known_pairs(count, seed)
    checkpoint = open_checkpoint(by, quiet)
    judge = checkpoint.chat_model(batch)
    rows = [pair.a for pair in pairs]  # alternately right and wrong
    with _count_replies("validate", 3 * len(pairs), quiet) as tell:
        scored = score_answers(judge, rows, mode=mode, max_tokens=max_tokens, tell=tell)
        judged = judge_pairs(judge, pairs, mode=mode, max_tokens=max_tokens, seed=seed, tell=tell)
    scores, verdicts = score_agreement(scored.rows, seed), pair_agreement(judged.rows)
    if as_json:
        facts = {
            "judge": checkpoint.name,
            "questions": len(pairs),
            "unread_scores": len(scored.failures),
            "unread_pairs": judged.counts["unread"],
            "first_place": judged.first_place,
            "agreement": score_agreement_facts(scores),
            "pair_agreement": pair_agreement_facts(verdicts),
        }
        print(json.dumps(facts))
        return
    lines = [("judge", f"{checkpoint.name}, by {mode}, on {len(pairs):,} instructions with known answers")]
    lines += score_agreement_lines(scores)
    lines += pair_agreement_lines(verdicts)
    if judged.first_place is not None:
        lines.append(("position", f"{judged.first_place:.0%} of verdicts prefer the first position"))
    if scored.failures or judged.counts["unread"]:
        lines.append(("unparsed", f"{len(scored.failures):,} scores, {judged.counts['unread']:,} pairs"))
    show(lines)


def _prompt(path: Path | None, default: "JudgePrompt", required: Sequence[str]) -> "JudgePrompt":
    from mlx_suite.evaluate.prompts import read_prompt

    return default if path is None else read_prompt(path, required)


@contextmanager
def _count_replies(label: str, total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """A callback that advances a progress line by one reply."""
    if quiet:
        yield lambda: None
        return
    with Progress(label, total, unit="replies") as progress:
        yield progress.advance


def _write_rows(out: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    from mlx_suite.runtime.files import write_atomically

    if out is not None:
        write_atomically(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
