"""Encoding of a conversation as token ids, with the owner of every token.

The template is rendered twice: with the real contents, and with each content replaced by a whitespace-padded marker
that does not occur in any message. The second rendering shows where contents go and whether the template trims them;
with the contents filled in, it must equal the first. So message text is never mistaken for template text and never
encodes a special token, whatever it contains.
"""

import re
from collections.abc import Sequence

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.message import Message
from mlx_suite.text.pieces import TEMPLATE, EncodedChat, Piece, replace_surrogates
from mlx_suite.text.template import ChatTemplate
from mlx_suite.text.tokenizer import Tokenizer

PAD_LEFT, PAD_RIGHT = "\n\v", "\v\n"
"""Whitespace around a marker: `strip()` removes all of it, `strip("\\n")` leaves `\\v`."""
PRIVATE_USE = range(0xE000, 0xF900)


def encode_chat(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
) -> EncodedChat:
    """Encode a conversation: ids and the message each belongs to, with one leading BOS if the model uses BOS.

    Equal to transformers' `apply_chat_template` unless contents contain special tokens. Raises UserError if the
    template rejects the conversation or fails.
    """
    pieces = chat_pieces(tokenizer, template, messages, add_generation_prompt=add_generation_prompt)
    return tokenizer.with_one_bos(tokenizer.encode_pieces(pieces))


def chat_pieces(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
) -> list[Piece]:
    """Split the rendered conversation into template text and message contents, in order."""
    messages = [Message(message.role, replace_surrogates(message.content)) for message in messages]
    rendered = template.render(messages, add_generation_prompt=add_generation_prompt)
    mark = unused_letter(rendered)
    marked = [
        Message(message.role, f"{PAD_LEFT}{mark}{index}{mark}{PAD_RIGHT}") for index, message in enumerate(messages)
    ]
    skeleton = _cut(template.render(marked, add_generation_prompt=add_generation_prompt), mark)
    pieces = [_filled(part, messages) for part in skeleton]
    if "".join(piece.text for piece in pieces) == rendered:
        return pieces
    return _anchored(tokenizer, template, messages, rendered, skeleton)


def unused_letter(text: str) -> str:
    """A private-use character that does not occur in `text`."""
    used = set(text)
    free = next((chr(code) for code in PRIVATE_USE if chr(code) not in used), None)
    assert free is not None, "a text with all 6,400 private-use characters"
    return free


def _cut(marked: str, mark: str) -> list[tuple[str, int, str]]:
    """The marked rendering as (left padding or template text, message index or TEMPLATE, right padding)."""
    place = re.compile(f"({PAD_LEFT}|\v|){mark}(\\d+){mark}({PAD_RIGHT}|\v|)")
    parts: list[tuple[str, int, str]] = []
    end = 0
    for match in place.finditer(marked):
        parts.append((marked[end : match.start()], TEMPLATE, ""))
        parts.append((match[1], int(match[2]), match[3]))
        end = match.end()
    return [*parts, (marked[end:], TEMPLATE, "")]


def _filled(part: tuple[str, int, str], messages: Sequence[Message]) -> Piece:
    """Fill a part of the skeleton with its content, trimmed as the template trimmed the padding."""
    left, owner, right = part
    if owner == TEMPLATE:
        return Piece(text=left, owner=TEMPLATE)
    text = messages[owner].content
    if left != PAD_LEFT:
        text = text.lstrip("\n" if left else None)
    if right != PAD_RIGHT:
        text = text.rstrip("\n" if right else None)
    return Piece(text=text, owner=owner)


def _anchored(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Message],
    rendered: str,
    skeleton: Sequence[tuple[str, int, str]],
) -> list[Piece]:
    """Pieces for a template that rewrites contents (for example, drops `<think>` parts): finds its own text in order.

    Contents with special tokens could imitate that text, so they are refused here.
    """
    specials = tokenizer.specials
    if specials is None or not any(specials.search(message.content) for message in messages):
        pieces: list[Piece] = []
        place, owner = 0, TEMPLATE
        for number, (text, index, _) in enumerate(skeleton):
            if index != TEMPLATE:
                owner = index
                continue
            last = number == len(skeleton) - 1
            found = len(rendered) - len(text) if last else rendered.find(text, place)
            if found < place or not rendered.startswith(text, found):
                break
            pieces += [
                Piece(text=rendered[place:found], owner=owner),
                Piece(text=text, owner=TEMPLATE),
            ]
            place = found + len(text)
        else:
            return pieces
    raise UserError(
        "the chat template rewrites these messages, so their tokens cannot be separated from its own",
        template.origin,
        "remove special tokens and markup that the template looks for from the messages",
    )
