"""Scores of an answer from log-probabilities, and from a reward model where there is one.

All of them are about the same tokens: the last answer's, without its stop token. With

    p(answer | c)    the mean log-probability of one of them, in nats, behind a context c

    conversation     what stands before the answer in the row, in the chat template
    nothing          BOS alone; where the tokenizer has none, the answer's first token, which then counts nowhere
    bare text        BOS and what stands before the answer as plain text, a blank line behind each turn

the scores are

ifd                 exp(p(answer | nothing) − p(answer | conversation)): the answer's perplexity with the instruction
                    as a share of that without it, instruction-following difficulty (arXiv 2402.00530, section 2; in
                    2308.12032 it is the ratio of the logarithms). Near 0 the instruction says it all; from 1 up it
                    is of no help to the model: answer and instruction do not fit.
reward_difference   p(answer | conversation) − p(answer | conversation; base). Times the number of tokens and DPO's β it
                    is the implicit reward by which the model has been tuned away from its base (arXiv 2305.18290,
                    section 4), up to a term that depends on the instruction alone. So it compares answers to one
                    instruction; over different instructions it says little, and it can only prefer what the tuning
                    preferred. Without a base model it is p(answer | conversation) − p(answer | bare text) of the same
                    weights: how much the template alone makes the answer likelier, a hint of where the tuning works
                    and no reward.
reward              a reward model's number for the conversation.
reward_difference   with a reward model, and where a row has `base_output`, another model's answer: the reward of the
                    row's answer less that of the other (Magpie, arXiv 2406.08464, section 3.2, with the base model's).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from mlx_suite.checkpoints.reward_model import RewardModel, rewards
from mlx_suite.engine.chat_model import Speaker, Spoken
from mlx_suite.engine.context import context_length
from mlx_suite.engine.token_scores import Window, score_windows
from mlx_suite.text import Tokenizer
from mlx_suite.text.message import ASSISTANT

DECIMALS = 4

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Talk:
    """A row's conversation, in text and in tokens."""

    messages: Sequence[Mapping[str, Any]]
    spoken: Spoken
    """With an answer."""
    base_output: str | None = None
    """Another model's answer to the same, where the row has one."""


def own_figures(model: Any, tokenizer: Tokenizer, talks: Sequence[Talk], *, bare: bool) -> list[Figures]:
    """p(answer | conversation) as `conversation`, p(answer | nothing) as `nothing` and, with `bare`, the third.

    An answer without a token that can be scored has no figures.
    """
    start = _bos(tokenizer)
    wanted: list[dict[str, Window]] = []
    for talk in talks:
        answer = talk.spoken.answer_ids
        windows = {"conversation": _in_conversation(talk.spoken, start), "nothing": _behind(start, answer, start)}
        if bare:
            before = "".join(f"{each['content']}\n\n" for each in talk.messages[:-1])
            windows["bare"] = _behind((*start, *tokenizer.encode(before)), answer, start)
        wanted.append(windows)
    return _means(model, wanted)


def base_figures(model: Any, tokenizer: Tokenizer, talks: Sequence[Talk]) -> list[Figures]:
    """p(answer | conversation; base) of each, as `base`: of the same tokens, so both must share a vocabulary."""
    start, context = _bos(tokenizer), context_length(model)
    wanted = [{"base": _in_conversation(talk.spoken, start)} for talk in talks]
    return _means(model, [each if len(each["base"].fed) <= context else {} for each in wanted])


def reward_figures(model: RewardModel, judge: Speaker, talks: Sequence[Talk]) -> list[Figures]:
    """`reward` of each conversation and `base_reward` where there is another answer, in the judge's own template.

    What is longer than the judge's context, or refused by its template, has no figure.
    """
    texts: list[tuple[int, str, tuple[int, ...]]] = []
    for number, talk in enumerate(talks):
        versions = {"reward": talk.messages}
        if talk.base_output is not None:
            versions["base_reward"] = [*talk.messages[:-1], {"role": ASSISTANT, "content": talk.base_output}]
        for name, messages in versions.items():
            ids = judge.whole(messages)
            if ids and len(ids) <= judge.context:
                texts.append((number, name, ids))
    found: list[Figures] = [{} for _ in talks]
    for (number, name, _), value in zip(texts, rewards(model, [ids for _, _, ids in texts]), strict=True):
        found[number][name] = value
    return found


def scores_of(figures: Mapping[str, float], wanted: Sequence[str]) -> dict[str, float]:
    """The scores that are wanted and can be told from the figures, rounded."""
    found: dict[str, float] = {}
    if "ifd" in wanted and "conversation" in figures and "nothing" in figures:
        found["ifd"] = exp(min(figures["nothing"] - figures["conversation"], 50.0))
    if "reward" in wanted and "reward" in figures:
        found["reward"] = figures["reward"]
    if "reward_difference" in wanted:
        for ours, theirs in (("reward", "base_reward"), ("conversation", "base"), ("conversation", "bare")):
            if ours in figures and theirs in figures:
                found["reward_difference"] = figures[ours] - figures[theirs]
                break
    return {name: round(value, DECIMALS) for name, value in found.items()}


def _means(model: Any, wanted: Sequence[Mapping[str, Window]]) -> list[Figures]:
    flat = [window for windows in wanted for window in windows.values() if window.targets]
    scored = iter(score_windows(model, flat))
    return [
        {name: float(next(scored).log_probs.mean()) for name, window in windows.items() if window.targets}
        for windows in wanted
    ]


def _in_conversation(spoken: Spoken, start: tuple[int, ...]) -> Window:
    assert spoken.answer is not None, "a conversation without an answer"
    first, stop = spoken.answer
    return _behind(spoken.ids[:first], spoken.ids[first:stop], start)


def _behind(before: tuple[int, ...], answer: tuple[int, ...], start: tuple[int, ...]) -> Window:
    """The answer behind some tokens. Where no text begins with BOS, its first token is left out of every context."""
    return Window(fed=(*before, *answer[:-1]), targets=answer if start else answer[1:])


def _bos(tokenizer: Tokenizer) -> tuple[int, ...]:
    return (tokenizer.bos_id,) if tokenizer.adds_bos and tokenizer.bos_id is not None else ()
