"""The program that asks about one conversation: everything in two asides, each token of the row fed once."""

from collections.abc import Sequence

from mlx_suite.curation.tags.tagging import Tag, Tagger
from mlx_suite.engine import Aside, Given, Program
from mlx_suite.engine.chat_model import Spoken


def ask_row(spoken: Spoken, taggers: Sequence[Tagger]) -> Program:
    """Returns what each tagger's questions were told, by name; None where the context has no room for one of them.

    Questions about an answer are left out where there is none.
    """
    found: list[dict[str, Tag]] = [{} for _ in taggers]
    parts = [(spoken.ids[: spoken.asked], [(tagger.instruction, tagger.instruction_tags) for tagger in taggers])]
    if spoken.answer is not None:
        parts.append((spoken.ids[spoken.asked :], [(tagger.answer, tagger.answer_tags) for tagger in taggers]))
    for tokens, asked in parts:
        yield Given(tokens)
        queries = tuple(query for aside, _ in asked for query in aside.queries)
        if not queries:
            continue
        replies = yield Aside(queries)
        if replies is None:
            return None
        for tags, (aside, read) in zip(found, asked, strict=True):
            own, replies = replies[: len(aside.queries)], replies[len(aside.queries) :]
            tags |= read(own)
    return found
