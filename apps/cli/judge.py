"""`mlx-suite judge`: a model's answers, graded by a model or checked against the truth."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.progress import Progress

from .flags import AdapterFolder, AsJson, Batch, Limit, ModelName, Quiet
from .help import HelpCommand, new_app
from .judge_options import (
    Answers,
    By,
    MaxTokens,
    PromptFile,
    Report,
    Seed,
    check_word,
    judge_model,
    progress_of,
    prompt_of,
    write_rows,
)
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
from .labelled import show

judge_app = new_app("judge", "Grade a model's responses, or check them.")


@judge_app.command("answer", cls=HelpCommand)
def answer(
    model: ModelName,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A dataset in any format that `finetune` reads.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the answers go, `answers.jsonl`.")],
    adapter: AdapterFolder = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="test, valid or train; without it the first of them that there is."),
    ] = None,
    style: Annotated[str, typer.Option(help="chat, alpaca, phi3 or plain: the one the model was trained in.")] = "chat",
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="System text for questions that have none of their own.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, metavar="N", help="Tokens an answer may have.")
    ] = 512,
    limit: Limit = None,
    batch: Batch = 16,
    format: Annotated[str | None, typer.Option(help="The data's format, where it is not found.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a model answer the questions of a dataset, greedily.

    Rows hold the question, the dataset's own answer as the reference, and the model's. Stop it whenever you like: the
    same command goes on where it was and ends with the same file. Beside it, `.settings.json` says what made it.

    Example: `mlx-suite judge answer tiny-llama3 demo/ --out answers.jsonl`
    """
    from mlx_suite.data.dataset import PARTS
    from mlx_suite.data.encode.styles import STYLES
    from mlx_suite.evaluate.answering import AnswerSettings, read_questions, write_answers

    check_word("--part", part, (None, *PARTS))
    check_word("--style", style, STYLES)
    questions = read_questions(data, part, format)
    respondent, name, called = judge_model(model, quiet, batch, adapter=adapter, style=style)
    settings = AnswerSettings(max_tokens=max_tokens, system=system, model=name, adapter=called)
    bars: list[Progress] = []

    def tell(done: int, total: int) -> None:
        if quiet:
            return
        if not bars:
            bars.append(Progress("answer", total, unit="answers", done=done).__enter__())
        bars[0].update(done)

    try:
        count = write_answers(respondent, questions, settings, out, limit, tell)
    except KeyboardInterrupt:
        print(f"Stopped. What was answered is in {out}; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        for bar in bars:
            bar.__exit__(None, None, None)
    if as_json:
        print(json.dumps({"answers": count, "part": questions.part, "file": str(out)}))
        return
    show([("answers", f"{count:,} of the {questions.part} part, in {out}"), ("next", f"mlx-suite judge exact {out}")])


@judge_app.command("score", cls=HelpCommand)
def score(
    answers: Answers,
    by: By,
    labels: Annotated[
        bool,
        typer.Option("--labels", help="Read the score off the probabilities of 0, 10, … 100: nothing to be parsed."),
    ] = False,
    prompt: PromptFile = None,
    limit: Limit = None,
    batch: Batch = 16,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    out: Report = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a judge give each answer a score from 0 to 100.

    The judge is shown the instruction, the reference if there is one, and the answer. Replies that hold no score are
    counted and listed. Where the microworld knows the truth, the report says whether the judge does.

    Example: `mlx-suite judge score answers.jsonl --by OWNER/REPO`
    """
    from mlx_suite.evaluate.agreement import score_agreement
    from mlx_suite.evaluate.answered import read_answers
    from mlx_suite.evaluate.prompts import SCORE_PROMPT
    from mlx_suite.evaluate.scoring import score_answers

    rows = read_answers(answers, limit)
    chosen = prompt_of(prompt, SCORE_PROMPT, ("instruction", "answer"))
    judge, name, _ = judge_model(by, quiet, batch)
    with progress_of("score", len(rows), quiet) as bar:
        report = score_answers(
            judge,
            rows,
            mode="label" if labels else "text",
            prompt=chosen,
            max_tokens=max_tokens,
            tell=lambda: bar.advance() if bar else None,
        )
    agreement = score_agreement(report.rows, seed)
    write_rows(out, [row.as_dict() for row in report.rows])
    if as_json:
        print(json.dumps({"judge": name, **score_facts(report, agreement)}, ensure_ascii=False))
        return
    show_scores(report, name)
    show(score_agreement_lines(agreement))


@judge_app.command("pair", cls=HelpCommand)
def pair(
    a: Annotated[Path, typer.Argument(metavar="A", help="Answers of one model.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Answers of the other to the same questions.")],
    by: By,
    text: Annotated[
        bool, typer.Option("--text", help="Let the judge write its verdict, in place of weighing the labels A and B.")
    ] = False,
    prompt: PromptFile = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N pairs.")] = None,
    batch: Batch = 16,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    out: Report = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a judge compare two models' answers, each pair in both orders.

    A win counts if the same answer wins from either place; else the pair is a tie. The win rate is given as it is and
    as it would be between answers of equal length (AlpacaEval's length control, arXiv 2404.04475).

    Example: `mlx-suite judge pair mine.jsonl base.jsonl --by OWNER/REPO`
    """
    from mlx_suite.evaluate.agreement import pair_agreement
    from mlx_suite.evaluate.answered import read_answers
    from mlx_suite.evaluate.pairwise import judge_pairs, match_answers
    from mlx_suite.evaluate.prompts import PAIR_PROMPT

    matched = match_answers(read_answers(a), read_answers(b))
    if not matched.pairs:
        raise UserError(
            "The two files answer no question in common",
            where=f"{a} and {b}",
            fix="let both models answer the same data: mlx-suite judge answer MODEL DATA",
        )
    pairs = matched.pairs[:limit]
    chosen = prompt_of(prompt, PAIR_PROMPT, ("instruction", "first", "second"))
    judge, name, _ = judge_model(by, quiet, batch)
    with progress_of("pair", 2 * len(pairs), quiet) as bar:
        report = judge_pairs(
            judge,
            pairs,
            mode="text" if text else "label",
            prompt=chosen,
            max_tokens=max_tokens,
            seed=seed,
            tell=lambda: bar.advance() if bar else None,
        )
    agreement = pair_agreement(report.rows)
    write_rows(out, [row.as_dict() for row in report.rows])
    if as_json:
        print(json.dumps({"judge": name, **pair_facts(report, matched, agreement)}, ensure_ascii=False))
        return
    show([*pair_lines(report, matched, name), *pair_agreement_lines(agreement)])


@judge_app.command("exact", cls=HelpCommand)
def exact(
    answers: Answers,
    against: Annotated[
        str,
        typer.Option(help="world: the microworld's own checker. reference: the same text as the reference."),
    ] = "world",
    limit: Limit = None,
    out: Report = None,
    as_json: AsJson = False,
) -> None:
    """Check answers where the truth is known; no model is needed.

    Rows whose truth is not known are counted apart. Against a reference, case, spaces, quotes around an answer and a
    full stop after it do not matter.

    Example: `mlx-suite judge exact answers.jsonl`
    """
    from mlx_suite.evaluate.answered import read_answers
    from mlx_suite.evaluate.exact import TRUTHS, check_answers

    check_word("--against", against, TRUTHS)
    report = check_answers(read_answers(answers, limit), against)
    write_rows(out, [row.as_dict() for row in report.rows])
    if as_json:
        print(json.dumps(exact_facts(report), ensure_ascii=False))
        return
    show(exact_lines(report, against))


@judge_app.command("validate", cls=HelpCommand)
def validate(
    by: By,
    count: Annotated[int, typer.Option("--count", "-n", min=2, metavar="N", help="Questions of known truth.")] = 200,
    text: Annotated[bool, typer.Option("--text", help="Let the judge write, in place of weighing labels.")] = False,
    batch: Batch = 16,
    max_tokens: MaxTokens = 64,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find out whether a model is any good as a judge, before its figures are believed.

    It is shown questions of the microworld with a right answer to compare with, and has to tell other right answers
    from wrong ones that look the same: by score, and in pairs in both orders.

    Example: `mlx-suite judge validate --by OWNER/REPO`
    """
    from mlx_suite.evaluate.agreement import known_pairs, pair_agreement, score_agreement
    from mlx_suite.evaluate.pairwise import judge_pairs
    from mlx_suite.evaluate.scoring import score_answers

    mode = "text" if text else "label"
    pairs = known_pairs(count, seed)
    judge, name, _ = judge_model(by, quiet, batch)
    # One side of each pair, right and wrong in turn.
    rows = [pair.a for pair in pairs]
    with progress_of("validate", 3 * len(pairs), quiet) as bar:

        def tell() -> None:
            if bar:
                bar.advance()

        scored = score_answers(judge, rows, mode=mode, max_tokens=max_tokens, tell=tell)
        judged = judge_pairs(judge, pairs, mode=mode, max_tokens=max_tokens, seed=seed, tell=tell)
    scores, verdicts = score_agreement(scored.rows, seed), pair_agreement(judged.rows)
    if as_json:
        facts = {
            "judge": name,
            "questions": len(pairs),
            "unread_scores": len(scored.failures),
            "unread_pairs": judged.counts["unread"],
            "first_place": judged.first_place,
            "agreement": score_agreement_facts(scores),
            "pair_agreement": pair_agreement_facts(verdicts),
        }
        print(json.dumps(facts))
        return
    lines = [("judge", f"{name}, by {mode}, on {len(pairs):,} questions of known truth")]
    lines += score_agreement_lines(scores)
    lines += pair_agreement_lines(verdicts)
    if judged.first_place is not None:
        lines.append(("place", f"{judged.first_place:.0%} of verdicts are for the first place"))
    if scored.failures or judged.counts["unread"]:
        lines.append(("unread", f"{len(scored.failures):,} scores, {judged.counts['unread']:,} pairs"))
    show(lines)
