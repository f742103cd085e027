"""Scores of a response from log-probabilities, and from a reward model if there is one.

All scores are computed on the same tokens: the last response without its stop token. With

    p(answer | c)    mean log-probability of its tokens, in nats, given a context c

    conversation     the turns before the response, in the chat template
    nothing          BOS alone; without a BOS, the response's first token, which then is not scored in any context
    bare text        BOS and the turns before the response as plain text, each followed by a blank line

the scores are

ifd                 exp(p(answer | nothing) − p(answer | conversation)): perplexity of the response with the instruction
                    relative to that without it, the instruction-following difficulty (arXiv 2402.00530, section 2;
                    2308.12032 takes the ratio of the logarithms). Near 0 the instruction determines the response; at 1
                    or more it does not help the model: instruction and response do not match.
reward_difference   p(answer | conversation) − p(answer | conversation; base). Times the number of tokens and DPO's β it
                    is the implicit reward of tuning the base model into this one (arXiv 2305.18290, section 4), up to a
                    term that depends only on the instruction. So it compares responses to one instruction, says little
                    across instructions, and can only prefer what the tuning preferred. Without a base model it is
                    p(answer | conversation) − p(answer | bare text) under the same weights: what the template alone
                    adds, a hint at where the tuning matters, not a reward.
reward              a reward model's output for the conversation.
reward_difference   with a reward model, for rows with `base_output`, another model's response: the reward of the row's
                    response minus that of the other (Magpie, arXiv 2406.08464, section 3.2, with the base model's).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from mlx_suite.data.read.tool_turns import spoken_text
from mlx_suite.engine import context_length
from mlx_suite.engine.chat_model import ChatModel, EncodedConversation
from mlx_suite.engine.token_scores import Window, score_windows
from mlx_suite.modeling.reward_model import RewardModel, rewards
from mlx_suite.text import Tokenizer
from mlx_suite.text.message import ASSISTANT

DECIMALS = 4

Measurements = dict[str, float]
"""Mean log-probabilities and rewards by name, from which scores are computed."""


@dataclass(frozen=True, kw_only=True)
class ScoredConversation:
    """A row's conversation as messages and as tokens. It ends with a response."""

    messages: Sequence[Mapping[str, Any]]
    encoded: EncodedConversation
    base_output: str | None = None
    """Another model's response to the same conversation, if the row has one."""


def own_log_probs(
    model: Any, tokenizer: Tokenizer, conversations: Sequence[ScoredConversation], *, bare: bool
) -> list[Measurements]:
    """Mean log-probabilities in the contexts `conversation`, `nothing` and, with `bare`, `bare`.

    A response without a token to score has no measurements.
    """
    start = _bos(tokenizer)
    contexts: list[dict[str, Window]] = []
    for each in conversations:
        answer = each.encoded.response_ids
        windows = {"conversation": _in_conversation(each.encoded, start), "nothing": _window(start, answer, start)}
        if bare:
            before = "".join(f"{spoken_text(message)}\n\n" for message in each.messages[:-1])
            windows["bare"] = _window((*start, *tokenizer.encode(before)), answer, start)
        contexts.append(windows)
    return _means(model, contexts)


def base_log_probs(model: Any, tokenizer: Tokenizer, conversations: Sequence[ScoredConversation]) -> list[Measurements]:
    """p(answer | conversation; base) as `base`. Both models must share a vocabulary: the tokens are the same."""
    start, context = _bos(tokenizer), context_length(model)
    contexts = [{"base": _in_conversation(each.encoded, start)} for each in conversations]
    return _means(model, [each if len(each["base"].fed) <= context else {} for each in contexts])


def measured_rewards(
    model: RewardModel, judge: ChatModel, conversations: Sequence[ScoredConversation]
) -> list[Measurements]:
    """Rewards in the judge's template: `reward`, and `base_reward` of the other response if there is one.

    Conversations longer than the judge's context, or rejected by its template, have no reward.
    """
    texts: list[tuple[int, str, tuple[int, ...]]] = []
    for number, each in enumerate(conversations):
        versions = {"reward": each.messages}
        if each.base_output is not None:
            versions["base_reward"] = [*each.messages[:-1], {"role": ASSISTANT, "content": each.base_output}]
        for name, messages in versions.items():
            ids = judge.encode_whole(messages)
            if ids and len(ids) <= judge.context:
                texts.append((number, name, ids))
    measured: list[Measurements] = [{} for _ in conversations]
    for (number, name, _), value in zip(texts, rewards(model, [ids for _, _, ids in texts]), strict=True):
        measured[number][name] = value
    return measured


def scores_of(measured: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The named scores that can be computed from the measurements, rounded."""
    scores: dict[str, float] = {}
    if "ifd" in names and "conversation" in measured and "nothing" in measured:
        scores["ifd"] = exp(min(measured["nothing"] - measured["conversation"], 50.0))
    if "reward" in names and "reward" in measured:
        scores["reward"] = measured["reward"]
    if "reward_difference" in names:
        for ours, theirs in (("reward", "base_reward"), ("conversation", "base"), ("conversation", "bare")):
            if ours in measured and theirs in measured:
                scores["reward_difference"] = measured[ours] - measured[theirs]
                break
    return {name: round(value, DECIMALS) for name, value in scores.items()}


def _means(model: Any, contexts: Sequence[Mapping[str, Window]]) -> list[Measurements]:
    flat = [window for windows in contexts for window in windows.values() if window.targets]
    scored = iter(score_windows(model, flat))
    return [
        {name: float(next(scored).log_probs.mean()) for name, window in windows.items() if window.targets}
        for windows in contexts
    ]


def _in_conversation(encoded: EncodedConversation, start: tuple[int, ...]) -> Window:
    assert encoded.response is not None, "a conversation without an answer"
    first, stop = encoded.response
    return _window(encoded.ids[:first], encoded.ids[first:stop], start)


def _window(before: tuple[int, ...], answer: tuple[int, ...], start: tuple[int, ...]) -> Window:
    """The response in a context. Without a BOS (`start`), its first token is excluded from every context."""
    return Window(fed=(*before, *answer[:-1]), targets=answer if start else answer[1:])


def _bos(tokenizer: Tokenizer) -> tuple[int, ...]:
    return (tokenizer.bos_id,) if tokenizer.adds_bos and tokenizer.bos_id is not None else ()
