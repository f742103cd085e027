"""Reports what a row's program does while it runs: its text token by token, and how far it has come."""

from collections.abc import Callable

from mlx_suite.engine import Program, Request
from mlx_suite.magpie.plan import RowPlan
from mlx_suite.magpie.records import Draft
from mlx_suite.magpie.row import IsCertainReject
from mlx_suite.magpie.steering import Steer
from mlx_suite.text import StreamingDetokenizer

from .magpie_row import Part, RowState

OnText = Callable[[Part, str], None]
"""Called with more text of the instruction or of the response."""
OnState = Callable[[RowState, Draft | None], None]
"""Called with a new state and the row so far; None if the row begins again."""


class RowWatch:
    """One row in flight. All methods run on the thread that runs its program.

    Args:
        is_certain_reject: Decides whether the row ends early.
    """

    def __init__(
        self, plan: RowPlan, is_certain_reject: IsCertainReject, *, on_text: OnText, on_state: OnState
    ) -> None:
        self._plan, self._is_certain_reject = plan, is_certain_reject
        self._on_text, self._on_state = on_text, on_state
        self._is_tagged = plan.tagger is not None and bool(plan.tagger.instruction.queries)
        self._begin("instruction")

    def watched(self, request: Request) -> Request:
        """The row's request, which now reports its tokens, and when an engine short of memory begins it again."""
        renew = request.renew
        assert renew is not None, "a row can be generated again"

        def again() -> Program:
            self._begin("instruction")
            self._on_state("asking", None)
            return renew()

        request.on_token, request.renew = self._token, again
        return request

    def check(self, draft: Draft) -> bool:
        """Report how far the row has come; whether its rejection is certain."""
        if draft.response_end is not None:
            self._on_state("answered", draft)
        else:
            self._begin("response")
            self._on_state("screening" if self._is_tagged and draft.tags is None else "answering", draft)
        return self._is_certain_reject(draft)

    def _begin(self, part: Part) -> None:
        self._part: Part = part
        self._text = StreamingDetokenizer(self._plan.tokenizer)

    def _token(self, token: int) -> None:
        piece = self._text.add(token)
        if piece:
            self._on_text(self._part, piece)


def longest_row(plan: RowPlan, steer: Steer) -> int:
    """Maximum tokens of a row: the sanitised instruction may follow another header than the sampled one."""
    settings, pre_query = plan.settings, plan.pre_query
    header = max(len(plan.header(steer)), len(pre_query.header_ids))
    return header + settings.max_instruction + len(pre_query.to_assistant_ids) + settings.max_answer + 2
