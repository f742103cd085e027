"""What steered the model that wrote a row, and whether the model that learns from it shall see it.

A steering text ("The user asks for the solution of a mathematical problem.") is there to get such a question asked.
The question stands for itself afterwards: a model that is trained on it shall answer it without being told first. So
training rows leave steering texts out; a system text that the user has given to every row stays.
"""

from mlx_suite.curation.rows import Record
from mlx_suite.data.steering import AGREEMENT, CATEGORY_TEXTS, DIMENSIONS, LANGUAGE_TEXTS, REST, steering_text
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

_KNOWN = {"category": CATEGORY_TEXTS, "language": LANGUAGE_TEXTS}


def steering_texts(row: Record) -> tuple[str, ...]:
    """The sentences that steered a row, by its field `steer`; none where it was not steered."""
    steer = row.get("steer")
    if not isinstance(steer, dict):
        return ()
    chosen = [(dimension, steer[dimension]) for dimension in DIMENSIONS if steer.get(dimension) not in (None, REST)]
    return tuple(
        steering_text(dimension, value)
        for dimension, value in chosen
        if isinstance(value, str) and value in _KNOWN.get(dimension, (value,))
    )


def without_steering(row: Record) -> Record:
    """The row without its steering texts, be they in a system turn or in an exchange in its place."""
    texts = steering_texts(row)
    if not texts:
        return row
    first, *rest = row["messages"]
    if first["role"] == SYSTEM:
        left = _without(first["content"], texts)
        kept = [{**first, "content": left}] if left else []
        return {**row, "messages": [*kept, *rest]}
    if _is_exchange(row["messages"][:2]) and not _without(first["content"], texts):
        return {**row, "messages": rest[1:]}
    return row


def with_steering(row: Record) -> Record:
    """The row with its steering texts as a system turn, before or behind none but a system text it has."""
    bare = without_steering(row)
    texts = steering_texts(row)
    if not texts:
        return row
    own = [message for message in bare["messages"] if message["role"] == SYSTEM]
    others = [message for message in bare["messages"] if message["role"] != SYSTEM]
    system = " ".join([*(message["content"] for message in own), *texts])
    return {**bare, "messages": [{"role": SYSTEM, "content": system}, *others]}


def _without(text: str, sentences: tuple[str, ...]) -> str:
    for sentence in sentences:
        text = text.replace(sentence, "", 1)
    return text.strip()


def _is_exchange(turns: list[Record]) -> bool:
    return (
        len(turns) == 2
        and turns[0]["role"] == USER
        and turns[1]["role"] == ASSISTANT
        and turns[1]["content"] == AGREEMENT
    )
