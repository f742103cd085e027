"""What a process needs before its first row: the plan, the fingerprint of the folder, and room in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlx_suite.data.questions import Questions
from mlx_suite.engine import Engine
from mlx_suite.engine.context import context_length
from mlx_suite.magpie.ceiling import Room, make_room, within
from mlx_suite.magpie.fingerprint import Fingerprint, fingerprint_of
from mlx_suite.magpie.manifest import judged_by
from mlx_suite.magpie.row import Plan, plan_rows
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.magpie.shards import Shards
from mlx_suite.text import ChatTemplate, Tokenizer

OnNote = Callable[[str], None]
"""Called with a sentence that the user should see."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that makes rows."""

    model: Any
    plan: Plan
    fingerprint: Fingerprint
    room: Room

    @property
    def slots(self) -> int:
        """Rows to make side by side."""
        return self.room.slots

    def engine(self) -> Engine:
        """A new engine for them."""
        return Engine(self.model, slots=self.slots, context=context_length(self.model), limit=self.room.limit)


@contextmanager
def prepare(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: MagpieSettings,
    shards: Shards,
    questions: Questions | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Prepared]:
    """Get ready, with all other processes of the run; in the block memory is bounded.

    Raises UserError for what is wrong with the settings, the model or the memory, ElsewhereError where another process
    says so.
    """

    def make() -> Prepared:
        plan = plan_rows(model, tokenizer, template, settings, questions)
        fingerprint = fingerprint_of(model, plan)
        room = make_room(model, plan, slots_for(settings, shards.peers.size))
        return Prepared(model=model, plan=plan, fingerprint=fingerprint, room=room)

    prepared = shards.together(make)
    shards.agree(prepared.fingerprint.value, judged_by(prepared.plan), settings.count)
    if prepared.room.note is not None and on_note is not None:
        on_note(prepared.room.note)
    with within(prepared.room, settings):
        yield prepared


def slots_for(settings: MagpieSettings, processes: int = 1) -> int:
    """Rows to make side by side, in each process."""
    # More slots than half as many again as there are rows to make would only make rows that nobody needs.
    return min(settings.batch, -(-(settings.count + settings.count // 2 + 1) // processes))
