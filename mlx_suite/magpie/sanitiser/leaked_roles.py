"""Parts of the chat template that a model has written out as text: role headers and turn markers.

Special tokens end a turn, so what arrives here is their spelling in ordinary tokens. A question about them ("What does
<|eot_id|> mean?") or a pasted prompt keeps them.
"""

import re

from mlx_suite.magpie.sanitiser.code_blocks import code
from mlx_suite.magpie.sanitiser.wording import begins_message

_START = r"(?:<\|begin_of_text\|>|<bos>|<s>|<\|endoftext\|>)"
_END = r"(?:<\|eot_id\|>|<\|end_of_text\|>|<end_of_turn>|<eos>|<\|im_end\|>|<\|endoftext\|>|<\|end\|>|</s>|\[/INST\])"
_OPEN = r"(?:<\|start_header_id\|>|<start_of_turn>|<\|im_start\|>|<\|(?:user|system|assistant)\|>|\[INST\])"
_HEADER = re.compile(
    rf"(?:{_START}\s*)*(?:<\|start_header_id\|>\s*user\s*<\|end_header_id\|>|<start_of_turn>\s*user\b"
    r"|<\|im_start\|>\s*user\b|<\|user\|>|\[INST\])\s*"
)
_OPENER = re.compile(_OPEN)
_ANSWERER = r"(?:<\|start_header_id\|>\s*assistant|<\|im_start\|>\s*assistant|<start_of_turn>\s*model|<\|assistant\|>)"
_TURN_END = re.compile(
    rf"(?<=[^\s\"'`‘’“”(]){_END}(?=\s*$|\s*\n)|(?<=[.?!] )\[/INST\]|{_END}(?=\s*{_OPEN})|^{_ANSWERER}", re.MULTILINE
)
_ROLE_LINE = re.compile(r"(?:user|human)[ \t]*\n(?:[ \t]*\n)?", re.IGNORECASE)
_LISTED = re.compile(r"[^\s.!?:]{1,20}$")


def without_user_header(text: str) -> str:
    """`text` without a user's header in front: `<|im_start|>user`, or the bare word that is left of it."""
    match = _HEADER.match(text)
    if match is None and (bare := _ROLE_LINE.match(text)):
        first = text[bare.end() :].split("\n", 1)[0].strip()
        # "user" may be the first of a list of words.
        if begins_message(first) and not _LISTED.match(first):
            match = bare
    return text[match.end() :] if match and text[match.end() :].strip() else text


def without_next_turn(text: str) -> str:
    """`text` up to the marker that ends the user's turn, if one is written out."""
    lines = text.split("\n")
    is_code = code(lines)
    place = 0
    for line, hidden in zip(lines, is_code, strict=True):
        match = None if hidden else _TURN_END.search(text, place, place + len(line) + 1)
        if match and match.start() <= place + len(line) and text[: match.start()].strip():
            # A header in front of it belongs to a prompt that was pasted.
            return text if _OPENER.search(text, 0, match.start()) else text[: match.start()]
        place += len(line) + 1
    return text
