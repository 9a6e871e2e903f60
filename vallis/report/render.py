"""Puts a page together as one file: text escaped, style, data and plotly.js inside, and nothing that goes to a network.

The page carries a content security policy that names its own scripts by their hashes: the browser runs these and no
others, and fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from vallis.core.figures import Figure
from vallis.core.numbers import MINUS, count, is_exact, probability, written
from vallis.report import prose, style
from vallis.report.csv_figure import to_pieces
from vallis.report.figure import describe
from vallis.report.plotly_figure import plotly_figure, tokens

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure on a page: its place in the page's data, and its words."""

    place: int
    name: str
    title: str
    caption: str
    alt: str


class Gallery:
    """Collects the figures of a page: their specifications go into its data, their words into its text."""

    def __init__(self) -> None:
        self.figures: list[dict[str, Any]] = []

    def add(self, figure: Figure) -> Drawn:
        """Takes a figure in.

        Raises:
            ValueError: a mark's arrays do not fit together.
        """
        from vallis.report.clean import clean

        spec = plotly_figure(figure)
        file = prose.slug(figure.name)
        self.figures.append({"file": file, "title": figure.title, **spec, "csv": to_pieces(figure)})
        place, caption = len(self.figures) - 1, clean(figure).caption
        return Drawn(place=place, name=figure.name, title=figure.title, caption=caption, alt=describe(figure))


def render(template: str, context: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]) -> str:
    """The page: the template of ``templates/`` filled in, with the figures' data and all that draws them."""
    scripts = {"plotly": _plotly() if figures else "", "script": _file("page.js"), "early": _file("early.js")}
    hashes = " ".join(f"'sha256-{_hash(text)}'" for text in scripts.values() if text)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    themes = {name: tokens(theme) for name, theme in style.THEMES.items()}
    data = embedded({"themes": themes, "figures": list(figures)})
    page: str = (
        _environment()
        .get_template(template)
        .render(
            **context, **_marked(scripts), policy=policy, data=data, style=_style(), contours=_markup("contours.svg")
        )
    )
    return page


def embedded(value: Any) -> Markup:
    """Plain values as JSON that is safe inside a script element: no ``<``, so neither ``</script>`` nor ``<!--``."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def inline(text: str) -> Markup:
    """Prose as it is set: what stands in backticks as code, ``-4e-16`` as a number with a power of ten."""
    from markupsafe import Markup, escape

    pieces = re.split(r"(`+)(.+?)\1", text)
    plain = (_set(str(escape(piece))) for piece in pieces[::3])
    code = (f"<code>{escape(piece)}</code>" for piece in pieces[2::3])
    return Markup("".join(piece for pair in zip_longest(plain, code, fillvalue="") for piece in pair))


def _set(text: str) -> str:
    powers = re.sub(r"(?<=\d)e([+-]?)0*(\d+)\b", lambda p: f"\u202f×\u202f10^{p[1].strip('+')}{p[2]}", text)
    raised = re.sub(r"(?<=\w)\^([-\u2212]?\d+)", lambda p: f"<sup>{p[1].replace('-', MINUS)}</sup>", powers)
    return re.sub(r"(?<![\w.-])-(?=\d)", MINUS, raised)


def unit(text: str) -> Markup:
    """A unit with its powers raised; nothing for a pure number."""
    from markupsafe import Markup, escape

    if text == "1":
        return Markup("")
    said = str(escape(text)).replace("*", "\N{MIDDLE DOT}").replace("/", "\u202f/\u202f")
    return Markup(re.sub(r"\^(-?[\w.]+)", lambda power: f"<sup>{power[1].replace('-', MINUS)}</sup>", said))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vallis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["exact"] = is_exact
    environment.filters |= {
        "count": count,
        "inline": inline,
        "link": prose.safe_link,
        "probability": probability,
        "setting": prose.setting,
        "slug": prose.slug,
        "source": prose.source,
        "unit": unit,
        "words": prose.words,
        "written": written,
    }
    return environment


def _style() -> Markup:
    from markupsafe import Markup

    light, dark = (_variables(theme) for theme in (style.LIGHT, style.DARK))
    on_paper = _variables(replace(style.LIGHT, paper="#ffffff"))
    fonts = "".join(
        f"--{name}:{style.family(fonts)};"
        for name, fonts in (("sans", style.SANS), ("serif", style.SERIF), ("mono", style.MONO))
    )
    dark_rules = f":root[data-theme=dark]{{color-scheme:dark;{dark}}}"
    by_system = f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
    # Last, and as specific as the others, so that nobody prints a black page.
    printed = f"@media print{{:root,:root[data-theme],:root:not([data-theme=light]){{color-scheme:light;{on_paper}}}}}"
    root = f":root{{color-scheme:light;{fonts}{light}}}"
    return Markup("\n".join([root, by_system, dark_rules, _file("page.css"), printed]))


def _variables(theme: style.Theme) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in asdict(theme).items() if isinstance(colour, str))


def _marked(texts: Mapping[str, str]) -> dict[str, Markup]:
    from markupsafe import Markup

    return {name: Markup(text) for name, text in texts.items()}


def _markup(name: str) -> Markup:
    from markupsafe import Markup

    return Markup(_file(name))


@cache
def _file(name: str) -> str:
    from importlib.resources import files

    return files("vallis.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    # A browser sees one kind of line end, and hashes what it sees.
    return text.replace("\r\n", "\n")


@cache
def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
