"""Forms of what is written, and rewrites that are useless."""

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize.rephrase import check_forms, rejection, whole_sentences

TEXT = "Ada was born in Oakford in 1962. She is a baker."


@pytest.mark.parametrize(
    "rewrite, reason",
    [
        ("In 1962 a baker, Ada, was born in Oakford.", None),
        ("", "empty"),
        (" -- \n", "empty"),
        (TEXT, "a copy of its text"),
        ("ada was born in Oakford in 1962\nshe is a baker", "a copy of its text"),
    ],
)
def test_an_empty_rewrite_and_a_copy_are_rejected(rewrite: str, reason: str | None) -> None:
    assert rejection(TEXT, rewrite) == reason


@pytest.mark.parametrize(
    "continuation, reason, kept",
    [
        (" She slept. Then", "limit", "She slept."),
        (' She said: "Go!" Then', "limit", 'She said: "Go!"'),
        ("她睡了。然后", "limit", "她睡了。"),
        (" She has 3.5 cats and", "limit", None),
        (" and then she", "stop", "and then she"),
    ],
)
def test_a_continuation_that_reached_its_limit_ends_with_its_last_whole_sentence(
    continuation: str, reason: str, kept: str | None
) -> None:
    assert whole_sentences(continuation, reason) == kept


@pytest.mark.parametrize(
    "forms, what",
    [
        (("pairs", "poem"), "There is no form 'poem'"),
        (("pairs", "pit"), "pairs and pit are the same pairs"),
        ((), "No form is given"),
        (("faq", "faq"), "A form is given twice"),
    ],
)
def test_forms_that_cannot_be_written_are_refused(forms: tuple[str, ...], what: str) -> None:
    with pytest.raises(UserError, match=what):
        check_forms(forms)
