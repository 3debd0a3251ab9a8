"""Our templates and assets; every text that is filled in is escaped."""

import base64
import json
import re
from math import isfinite
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ghosttrack.report.tables import number

D3 = "js/vendor/d3.min.js"
"""What scripts draw with, as npm has it; a page holds it once."""
SCRIPTS = ("dom", "tables", "readout", "ribbons", "why", "viewer", "page")
"""Modules of pages with single answers, each before those that import it."""


def environment() -> Environment:
    """Read our templates; every text that is filled in is escaped."""
    environment = Environment(
        loader=PackageLoader("ghosttrack.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters["number"] = number
    environment.filters["signed"] = _signed
    environment.filters["words"] = lambda text: text.replace("_", " ")
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(name: str) -> Markup:
    """Let a long name go on in the next line after its signs, and nowhere else if it can."""
    return Markup(re.sub("([+:_])", r"\1<wbr>", str(escape(name))))


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}" if isfinite(value) else "–"


def asset(name: str) -> Markup:
    """Read one of our own files; it is code, not data, and stays as it is."""
    return Markup((Path(__file__).parent / "template" / name).read_text(encoding="utf-8"))


def script(*names: str) -> Markup:
    """Join modules of `template/js`, each before those that import it, into one script.

    Their names are unique over all of them, so that imports and exports can be left out; types,
    which stand in comments, are for `tsc`.
    """
    joined = "".join(asset(f"js/{name}.js") for name in names)
    left_out = r"^import [^\n]*\n|^export (?=async|function|const|class)|/\*\*.*?\*/ *"
    return Markup(re.sub(left_out, "", joined, flags=re.MULTILINE | re.DOTALL))


def json_in_html(value: object) -> Markup:
    """Serialise for a script element: no `<`, `>` or `&` survives, so no tag can be closed."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def embedded(figure: Path) -> str:
    """Spell a file as a `data:` address wants it."""
    return base64.b64encode(figure.read_bytes()).decode()
