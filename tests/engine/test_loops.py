"""A text that loops ends with that reason as soon as its segment's check says so."""

from mlx_suite.engine import Engine, Given, Request, Sample
from mlx_suite.engine.program import LOOP_CHECK, Written
from mlx_suite.text.loops import loop_check
from tests.engine.scripted import ScriptedModel
from tests.engine.small_models import GREEDY

CYCLE = {1: 2, 2: 3, 3: 4, 4: 1}
WORDS = {1: "never", 2: "going", 3: "home", 4: "again"}


def text_of(tokens: object) -> str:
    return " ".join(WORDS[token] for token in tokens)  # type: ignore[attr-defined]


def written(**settings: object) -> tuple[Written, Engine]:
    def program():
        yield Given((1,))
        first = yield Sample(limit=1000, stop=frozenset({0}), sampling=GREEDY, **settings)
        yield Given((4,))
        second = yield Sample(limit=2, stop=frozenset({0}), sampling=GREEDY)
        return first, second

    engine = Engine(ScriptedModel(CYCLE), slots=2, context=2000)
    [done] = engine.run([Request(program=program())])
    first, second = done.result
    assert second.tokens == (1, 2)
    return first, engine


def test_a_loop_ends_the_text_and_the_program_goes_on() -> None:
    first, engine = written(loops=loop_check(text_of))
    assert (first.reason, first.stop_token) == ("loop", None)
    assert len(first.tokens) == 128
    assert first.tokens[:4] == (2, 3, 4, 1)
    assert engine.stats.sampled == 128 + 2


def test_without_a_check_it_runs_to_its_limit() -> None:
    first, _ = written()
    assert (first.reason, len(first.tokens)) == ("limit", 1000)


def test_the_check_is_called_every_32_tokens() -> None:
    lengths: list[int] = []

    def loops(tokens: object) -> bool:
        lengths.append(len(tokens))  # type: ignore[arg-type]
        return len(lengths) == 3

    first, _ = written(loops=loops)
    assert lengths == [LOOP_CHECK, 2 * LOOP_CHECK, 3 * LOOP_CHECK] == [32, 64, 96]
    assert len(first.tokens) == 96
