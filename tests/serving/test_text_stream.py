"""Deltas of a choice: stop texts and characters that are spread over tokens."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.serving.generation import Delta
from mlx_suite.serving.text_stream import TextStream


class Letters:
    """A detokenizer in which token n is the n-th of these pieces."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def add(self, token: int) -> str:
        return self.pieces[token]

    def finish(self) -> str:
        return ""


def streamed(pieces: list[str], *stop_texts: str) -> tuple[list[str], str | None]:
    """The texts of all deltas, and the stop text that was found."""
    deltas: list[Delta] = []
    stream = TextStream(choice=0, detokenizer=Letters(*pieces), stop_texts=stop_texts, on_delta=deltas.append)  # type: ignore[arg-type]
    for token in range(len(pieces)):
        if stream.add(token):
            break
    stream.finish()
    assert [token.id for delta in deltas for token in delta.tokens] == list(range(stream.count))
    return [delta.text for delta in deltas], stream.stop_text


def test_text_is_emitted_as_it_comes() -> None:
    assert streamed(["The ", "month", " is", " May"]) == (["The ", "month", " is", " May"], None)


def test_a_stop_text_that_is_spread_over_tokens_is_never_shown() -> None:
    assert streamed(["a ", "EN", "D of it"], "END") == (["a ", "", ""], "END")


def test_text_that_only_began_like_a_stop_text_is_shown_when_that_is_known() -> None:
    assert streamed(["a E", "N", "T", "ER"], "END") == (["a ", "", "ENT", "ER"], None)


def test_text_that_is_held_back_at_the_end_is_shown() -> None:
    assert streamed(["x", "EN"], "END") == (["x", "", "EN"], None)


def test_the_earliest_stop_text_counts_and_of_two_at_one_place_the_longer() -> None:
    assert streamed(["one two three"], "three", "two") == (["one "], "two")
    assert streamed(["aba"], "ab", "aba") == ([""], "aba")


PIECES = st.lists(st.text("abE", max_size=4), max_size=12)


@given(PIECES, st.lists(st.text("abE", min_size=1, max_size=4), max_size=3))
def test_any_split_shows_the_text_before_the_stop_text_that_is_completed_first(
    pieces: list[str], stops: list[str]
) -> None:
    shown, found = streamed(pieces, *stops)
    whole = "".join(pieces)
    if not any(stop in whole for stop in stops):
        assert ("".join(shown), found) == (whole, None)
    else:
        assert found in stops
        assert whole.startswith("".join(shown) + str(found))
        assert not any(stop in "".join(shown) for stop in stops)
