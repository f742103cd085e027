"""A subset of Go's text/template, sufficient to run the templates we write.

{{- action -}}   range $i, $x := list · if · else if · else · end · $x := e · $x = e · e
e                "text" · 1 · .Field · $ · $.Field · $x · eq a b c… · and a b · len a · slice a i · (e)
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

ACTION = re.compile(r"\{\{(?P<left>- )?(?P<body>.*?)(?P<right> -)?\}\}", re.DOTALL)
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()]+')


def render(source: str, data: Mapping[str, Any]) -> str:
    """The output of a template for `data`."""
    nodes = _nodes(source)
    body, rest = _parse(nodes)
    assert not rest, "an end too many"
    return _run(body, data, {"$": data})


def _nodes(source: str) -> list[tuple[str, str]]:
    """Yield ("text" or "action", content), without whitespace next to trim markers."""
    nodes: list[tuple[str, str]] = []
    place, trim = 0, False
    for match in ACTION.finditer(source):
        text = source[place : match.start()]
        text = text.lstrip() if trim else text
        text = text.rstrip() if match["left"] else text
        nodes += [("text", text), ("action", match["body"].strip())]
        place, trim = match.end(), bool(match["right"])
    text = source[place:]
    return [*nodes, ("text", text.lstrip() if trim else text)]


def _parse(nodes: list[tuple[str, str]]) -> tuple[list[Any], list[tuple[str, str]]]:
    """The tree up to the `else` or `end` that closes it, and the remaining tokens."""
    tree: list[Any] = []
    while nodes:
        kind, content = nodes[0]
        word = content.split(" ")[0] if kind == "action" else ""
        if word in ("else", "end"):
            return tree, nodes
        nodes = nodes[1:]
        if word == "range":
            inside, nodes = _parse(nodes)
            tree.append(("range", content[6:], inside))
            nodes = nodes[1:]
        elif word == "if":
            branches = []
            condition: str | None = content[3:]
            while True:
                inside, nodes = _parse(nodes)
                branches.append((condition, inside))
                closing = nodes[0][1]
                nodes = nodes[1:]
                if closing == "end":
                    break
                condition = closing[8:] if closing.startswith("else if ") else None
            tree.append(("if", branches))
        else:
            tree.append((kind, content))
    return tree, []


def _run(tree: Sequence[Any], dot: Any, names: dict[str, Any]) -> str:
    text = ""
    for node in tree:
        match node:
            case "text", str(content):
                text += content
            case "range", str(head), inside:
                variables, _, expression = head.rpartition(":=")
                for place, item in enumerate(_value(expression, dot, names)):
                    for name, value in zip(variables.replace(",", " ").split(), (place, item), strict=False):
                        names[name] = value
                    text += _run(inside, item, names)
            case "if", branches:
                for condition, inside in branches:
                    if condition is None or _value(condition, dot, names):
                        text += _run(inside, dot, names)
                        break
            case "action", str(content):
                if assignment := re.match(r"(\$\w+) :?= (.*)", content, re.DOTALL):
                    names[assignment[1]] = _value(assignment[2], dot, names)
                else:
                    text += str(_value(content, dot, names))
    return text


def _value(expression: str, dot: Any, names: Mapping[str, Any]) -> Any:
    words = WORD.findall(expression)
    value, rest = _call(words, dot, names)
    assert not rest, expression
    return value


def _call(words: list[str], dot: Any, names: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A function with its arguments up to the end or a closing bracket, or one operand."""
    if words[0] not in ("eq", "and", "len", "slice"):
        return _operand(words, dot, names)
    name, words = words[0], words[1:]
    arguments = []
    while words and words[0] != ")":
        argument, words = _operand(words, dot, names)
        arguments.append(argument)
    first, *others = arguments
    results = {
        "eq": lambda: first in others,
        "and": lambda: next((a for a in arguments if not a), arguments[-1]),
        "len": lambda: len(first),
        "slice": lambda: first[others[0] :],
    }
    return results[name](), words


def _operand(words: list[str], dot: Any, names: Mapping[str, Any]) -> tuple[Any, list[str]]:
    word, *rest = words
    if word == "(":
        value, rest = _call(rest, dot, names)
        assert rest[0] == ")"
        return value, rest[1:]
    if word.startswith('"'):
        return json.loads(word), rest
    if word.isdecimal():
        return int(word), rest
    name, _, field = word.partition(".")
    value = names[name] if name else dot
    return (value[field] if field else value), rest
