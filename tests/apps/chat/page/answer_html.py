"""What a browser would find in the HTML of an answer, and whether all of it is harmless."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

# Written out here, and not imported, so that a change of the renderer's own list is noticed.
ATTRIBUTES = {
    "a": {"href", "rel", "target"},
    "button": {"class", "type"},
    "div": {"class"},
    "ol": {"start"},
    "span": {"class"},
    "td": {"class"},
    "th": {"class"},
}
TAGS = {
    *ATTRIBUTES,
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "s", "code"),
    *("pre", "blockquote", "ul", "li", "table", "thead", "tbody", "tr"),
}
LINK = {"rel": "noopener noreferrer nofollow", "target": "_blank"}
VOID = {"br", "hr"}


@dataclass(frozen=True)
class Element:
    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)


class AnswerHTML(HTMLParser):
    """Elements, text and everything harmful in `html`."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.text = ""
        self.deepest = 0
        self.harm: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.harm += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in TAGS:
            self.harm.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES.get(tag, set()):
                self.harm.append(f"<{tag} {name}>")
            if name == "href" and not (value or "").lower().startswith(("http://", "https://", "mailto:")):
                self.harm.append(f"link to {value}")
        if tag == "a" and not LINK.items() <= dict(attrs).items():
            self.harm.append("link that tells where it comes from")
        if tag == "a" and "a" in self._open:
            self.harm.append("link in a link")
        if tag not in VOID:
            self._open.append(tag)
            self.deepest = max(self.deepest, len(self._open))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.harm.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.harm.append(f"comment {data}")

    def handle_decl(self, decl: str) -> None:
        self.harm.append(f"declaration {decl}")

    def handle_pi(self, data: str) -> None:
        self.harm.append(f"instruction {data}")

    def unknown_decl(self, data: str) -> None:
        self.harm.append(f"declaration {data}")

    def links(self) -> list[str]:
        return [str(each.attributes["href"]) for each in self.elements if each.tag == "a"]

    def tags(self) -> list[str]:
        return [each.tag for each in self.elements]
