"""Letters keep their owners through everything that a template does with a text."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.text import TEMPLATE, ChatTemplate
from mlx_suite.text.traced import own, runs

TEXT = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<|eot_id|>", " ", "\n", '"', "\\", "ß", "é", "🦙", "a", "Bc", "%s", "{}", "-"]
    ),
    max_size=6,
).map("".join)


def pieces(source: str, content: Any, **variables: Any) -> list[tuple[str, int]]:
    """What a template writes of one message, with owners; checks that the text is the one without owners."""
    template = ChatTemplate(source=source, special_tokens={}, variables=variables)
    rendered = template.render_turns([{"role": "user", "content": own(content, 7)}])
    assert rendered == template.render_turns([{"role": "user", "content": content}])
    return list(runs(rendered))


SCALARS = TEXT | st.integers() | st.none() | st.booleans()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
JSON_OPTIONS: list[dict[str, Any]] = [
    {},
    {"indent": 4},
    {"ensure_ascii": True},
    {"separators": (",", ":")},
    {"sort_keys": True},
]

EXPRESSIONS = [
    "c", "c | trim", "c.strip()", "c.lstrip('\\n')", "c.split('</think>')[-1]", "c.split()[0:2] | join('-')",
    "c.rsplit(' ', 1)[0]", "c.partition('<think>')[2]", "c.rpartition(' ')[0]", "c.splitlines() | join('|')",
    "c[1:]", "c[::-1]", "c | list | join", "c.replace('a', 'b')", "c | replace('a', c)", "c.upper()", "c | lower",
    "c | title", "c | capitalize", "c | indent(2, true)", "c ~ '!' ~ 3", "'%s|%5s' % (c, c)", "'%(x)s' % {'x': c}",
    "'<%s>' | format(c)", "'{}!'.format(c)", "c.format(1)", "', '.join([c, 'x'])", "[c, 'x'] | join(', ')",
    "c * 2", "c | string | safe", "[c]", "{'a': c} | string", "c.removeprefix('a').removesuffix('a')",
    "c | tojson", "{'k': [c, 1, none], c: {}} | tojson(indent=2)", "[c] | tojson(ensure_ascii=true)",
    "c | wordwrap(3)", "c | first", "c | e", "c.center(9)", "messages | map(attribute='content') | join",
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
@given(content=TEXT)
@settings(max_examples=15)
def test_an_expression_writes_what_it_writes_without_owners(expression: str, content: str) -> None:
    source = "{% set c = messages[0].content %}<{{ " + expression + " }}>"
    try:
        ChatTemplate(source=source, special_tokens={}).render_turns([{"role": "user", "content": content}])
    except Exception:  # an expression may fail on a text; then it fails with owners too
        with pytest.raises(Exception, match=r"the chat template fails"):
            pieces(source, content)
        return
    found = pieces(source, content)
    assert found[0][0].startswith("<") and found[-1][0].endswith(">")
    assert found[0][1] == found[-1][1] == TEMPLATE
    # A name of a special token in the output is the message's, because the template writes none.
    assert all("<|eot_id|>" not in text for text, owner in found if owner == TEMPLATE)


@given(value=VALUES)
@settings(max_examples=20)
@pytest.mark.parametrize("options", JSON_OPTIONS)
def test_json_is_as_the_standard_library_writes_it(options: dict[str, Any], value: Any) -> None:
    written = "".join(
        text for text, _ in pieces("{{ messages[0].content | tojson(**options) }}", value, options=options)
    )
    assert written == json.dumps(value, **{"ensure_ascii": False} | options)


def test_the_marks_of_json_are_the_templates_and_the_texts_are_the_messages() -> None:
    found = pieces("{{ messages[0].content | tojson }}", {"city": "Ro\nme", "n": 1})
    assert found == [('{"', -1), ("city", 7), ('": "', -1), ("Ro\\nme", 7), ('", "', -1), ("n", 7), ('": 1}', -1)]


def test_macros_blocks_and_namespaces_keep_owners() -> None:
    source = (
        "{% macro turn(m) %}[{{ m.content }}]{% endmacro %}{% set ns = namespace(all='') %}"
        "{% for m in messages %}{% set ns.all = ns.all + turn(m) %}{% endfor %}"
        "{% set block %}({{ ns.all }}){% endset %}{{ block }}"
    )
    assert pieces(source, "hi") == [("([", -1), ("hi", 7), ("])", -1)]


def test_a_part_of_a_message_keeps_its_owner_and_the_templates_text_does_not_get_one() -> None:
    source = "{{ '<think>\\n' + messages[0].content.split('</think>')[0].split('<think>')[-1].strip() + '\\n' }}"
    assert pieces(source, "<think> hm </think>Yes") == [("<think>\n", -1), ("hm", 7), ("\n", -1)]
