"""Draw docs/images/benchmarks.svg from what the benchmarks print:

mlx-suite bench generate tiny-llama3 --json > build/generate.json
mlx-suite bench magpie --json > build/magpie.json
mlx-suite bench finetune tiny-llama3 --json > build/finetune.json
python docs/make_pictures.py build/
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE = Path(__file__).parent / "images" / "benchmarks.svg"
OURS, THEIRS, TEXT, QUIET = "#0969da", "#afb8c1", "#24292f", "#57606a"
WIDTH, PANEL, HEIGHT = 880, 220, 230
BARS = 112
"""Pixels of the highest bar."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One comparison: ours on the left, mlx-lm on the right."""

    title: str
    note: str
    ours: float
    theirs: float
    unit: str = ""
    less_is_better: bool = False

    @property
    def gain(self) -> str:
        """The ratio, as it is printed over our bar."""
        return f"{self.ours / self.theirs:.2f}x" if self.less_is_better else f"{self.ours / self.theirs:.1f}x"


def panels(folder: Path) -> list[Panel]:
    """The four comparisons, from the benchmarks' JSON files."""
    generation = _load(folder / "generate.json")[0]
    [run] = [run for run in generation["runs"] if run["workload"]["batch"] == 8]
    steered = _load(folder / "magpie.json")["targets"][-1]
    sides = {side["side"]: side["accepted_per_hour"] for side in steered["sides"]}
    training = _load(folder / "finetune.json")[0]
    trainers = {side["trainer"]: side for side in training["sides"]}
    ours, theirs = trainers["mlx-suite"], trainers["mlx-lm"]
    return [
        Panel(
            title="Generation",
            note="tokens/s, 8 rows",
            ours=run["ours"]["tokens_per_second"],
            theirs=run["theirs"]["tokens_per_second"],
        ),
        Panel(
            title="Magpie with a quota",
            note="accepted rows per hour",
            ours=sides["mlx-suite, steered"],
            theirs=sides["mlx-lm, two stages"],
        ),
        Panel(
            title="LoRA training",
            note="trained tokens/s",
            ours=ours["tokens_per_second"],
            theirs=theirs["tokens_per_second"],
        ),
        Panel(
            title="LoRA memory",
            note="peak MB, less is better",
            ours=ours["peak_bytes"] / 1e6,
            theirs=theirs["peak_bytes"] / 1e6,
            less_is_better=True,
        ),
    ]


def draw(shown: list[Panel]) -> str:
    """The chart as SVG. It brings its own background, so it reads on light and dark pages."""
    sans = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
    figures = (f"{panel.title}, {panel.note}: {panel.ours:,.0f} against {panel.theirs:,.0f}" for panel in shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{sans}" font-size="13" '
        'role="img" aria-labelledby="t">',
        f'<title id="t">{"; ".join(figures)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#ffffff" stroke="#d0d7de"/>',
    ]
    for number, panel in enumerate(shown):
        parts += _panel(panel, PANEL * number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, left: int) -> list[str]:
    middle, base, most = left + PANEL // 2, 186, max(panel.ours, panel.theirs)
    parts = [
        _text(middle, 28, panel.title, fill=TEXT, weight="600"),
        _text(middle, 46, panel.note, fill=QUIET),
    ]
    for name, value, colour, x in (
        ("mlx-suite", panel.ours, OURS, middle - 70),
        ("mlx-lm", panel.theirs, THEIRS, middle + 10),
    ):
        height = max(2, round(BARS * value / most))
        parts.append(f'<rect x="{x}" y="{base - height}" width="60" height="{height}" rx="3" fill="{colour}"/>')
        parts.append(_text(x + 30, base - height - 6, f"{value:,.0f}", fill=TEXT))
        parts.append(_text(x + 30, base + 18, name, fill=QUIET))
    parts.append(_text(middle, base + 36, panel.gain, fill=OURS, weight="600"))
    return parts


def _text(x: int, y: int, content: str, *, fill: str, weight: str = "400") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="middle" fill="{fill}" font-weight="{weight}">{content}</text>'


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    IMAGE.parent.mkdir(exist_ok=True)
    IMAGE.write_text(draw(panels(Path(sys.argv[1]))), encoding="utf-8")
