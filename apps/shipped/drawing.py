"""Rows sampled as in Magpie but without any filter, to measure the model itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.data.steering import CATEGORY_TEXTS, lead, steering_text
from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling
from mlx_suite.microworld import identify
from mlx_suite.text import ChatTemplate, Tokenizer, derive_pre_query

LIMIT = 96
"""Maximum tokens of an instruction and of a response."""


@dataclass(frozen=True, kw_only=True)
class DrawnRow:
    """An instruction sampled at temperature 1 and its greedy response, both ended by a stop token."""

    instruction: str
    answer: str


def draw_rows(
    model: Any, tokenizer: Tokenizer, template: ChatTemplate, count: int, *, steering: str | None = None
) -> list[DrawnRow]:
    """Sample `count` rows, after `steering` if given; returns the complete ones."""
    pre_query = derive_pre_query(tokenizer, template, before=lead(template, steering))
    user_stop, reply_stop = frozenset(pre_query.user_stop_ids), frozenset(pre_query.assistant_stop_ids)

    def program() -> Program:
        yield Given(pre_query.header_ids)
        asked = yield Sample(limit=LIMIT, stop=user_stop)
        if asked.stop_token != pre_query.user_stop_ids[0]:
            return None
        yield Given(pre_query.to_assistant_ids)
        answered = yield Sample(limit=LIMIT, stop=reply_stop, sampling=Sampling(temperature=0.0))
        if answered.reason != "stop":
            return None
        return DrawnRow(instruction=_text(tokenizer, asked.tokens), answer=_text(tokenizer, answered.tokens))

    engine = Engine(model, slots=32, context=512)
    done = engine.run(Request(program=program(), seed=seed) for seed in range(count))
    found = {each.request.seed: each.result for each in done}
    return [found[seed] for seed in sorted(found) if found[seed] is not None]


def measure_steering(
    model: Any, tokenizer: Tokenizer, template: ChatTemplate, count: int, unsteered: Sequence[DrawnRow]
) -> dict[str, tuple[float, float]]:
    """Return each category's share among `count` rows steered to it, and among the unsteered rows."""
    usual = [category_of(row.instruction) for row in unsteered]
    shares = {}
    for category in CATEGORY_TEXTS:
        rows = draw_rows(model, tokenizer, template, count, steering=steering_text("category", category))
        obeyed = sum(category_of(row.instruction) == category for row in rows)
        shares[category] = obeyed / count, usual.count(category) / max(len(usual), 1)
    return shares


def category_of(instruction: str) -> str | None:
    """Category of the microworld's task; None for any other instruction."""
    found = identify(instruction)
    return found[0].category if found else None


def mean_obedience(steering: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Mean share over the categories: (steered, unsteered)."""
    steered, usual = zip(*steering.values(), strict=True)
    return sum(steered) / len(steered), sum(usual) / len(usual)


def _text(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    return tokenizer.decode(tokens).strip()
